"""Is the configuration right, is it the one that runs, and are its secrets kept?"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from config.text import Text

from . import told
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site

PERMISSION = os.strerror(errno.EACCES)
SHOWN = 120  # characters of a problem


@check(
    "YK-CFG-01",
    Text("configuration file", "設定ファイル"),
    blink=Blink.SOFTWARE,
    what=Text(
        "Whether the configuration file is there, and may be read by whoever asks.",
        "設定ファイルがあり、読み取れるかどうかを確認します。",
    ),
    why=Text(
        "Without it the gateway knows neither its sensors nor its broker. A running gateway "
        "keeps going with what it last had.",
        "設定ファイルがないと、センサーも中継サーバーも分かりません。運転中の装置は直前の設定で"
        "動き続けます。",
    ),
    do=(
        Text(
            "Look: `ls -l /etc/yukimi`. Another file is named by --config or $YUKIMI_CONFIG.",
            "`ls -l /etc/yukimi` で確認します。別のファイルは --config か $YUKIMI_CONFIG で指定"
            "します。",
        ),
        Text(
            "If it is missing, copy one of config/examples, edit it, and run "
            "`yukimi config check`.",
            "ない場合は config/examples の例を写して編集し、`yukimi config check` を実行します。",
        ),
        Text(
            "If it may not be read: `sudo chown root:yukimi FILE; sudo chmod 640 FILE`.",
            "読み取れない場合: `sudo chown root:yukimi FILE; sudo chmod 640 FILE`。",
        ),
    ),
)
def present(site: Site, _: None) -> Finding:
    """Look for the file."""
    file = site.config_file
    try:
        with file.open("rb"):
            return passed(f"{file}", f"{file}")
    except FileNotFoundError:
        return failed(
            Text(f"{file} is not there", f"{file} がありません"),
            Text(
                "put it there, or name one with --config",
                "ファイルを置くか、--config で指定してください",
            ),
        )
    except OSError as exc:
        return failed(
            Text(f"{file}: {exc.strerror}", f"{file}: {exc.strerror}"),
            Text(
                f"run it with sudo, or `sudo chmod 640 {file}`",
                f"sudo を付けて実行するか、`sudo chmod 640 {file}` を実行してください",
            ),
        )


@check(
    "YK-CFG-02",
    Text("configuration valid", "設定の内容"),
    blink=Blink.SOFTWARE,
    needs=("YK-CFG-01",),
    what=Text(
        "Whether every key, value and driver option in the file is valid.",
        "設定の項目・値・ドライバーのオプションが正しいかどうかを確認します。",
    ),
    why=Text(
        "A wrong configuration is refused. The gateway then runs with the last good one, or not "
        "at all where there is none: what was changed does not act.",
        "誤りのある設定は採用されません。直前の正しい設定で運転を続け、それもなければ起動しませ"
        "ん。変更した内容は反映されていません。",
    ),
    do=(
        Text(
            "`yukimi config check` lists every mistake with file, place and the nearest valid "
            "name.",
            "`yukimi config check` で、すべての誤りの場所と、正しい名前の候補が表示されます。",
        ),
        Text(
            "Correct them, check again, then `sudo systemctl reload yukimi`.",
            "修正して再度確認し、`sudo systemctl reload yukimi` を実行します。",
        ),
    ),
)
def valid(site: Site, _: None) -> Finding:
    """Load it as the daemon would."""
    problems = site.problems
    if not problems:
        plan = site.wanted
        count = 0 if plan is None else len(plan.sensors)
        return passed(f"valid, {count} sensors", f"正常、センサー{count}台")
    forbidden = next((each for each in problems if PERMISSION in str(each)), None)
    if forbidden is not None and os.geteuid() != 0:
        return failed(
            Text(
                f"not readable for you: {forbidden}",
                f"読み取り権限がありません: {forbidden.text.ja}",
            ),
            Text("run the doctor with sudo", "sudo を付けて実行してください"),
        )
    first = problems[0].text
    more = len(problems) - 1
    if site.daemon is not None or site.last_good is not None:
        runs = Text("; the last good one runs", "。直前の正しい設定で運転")
    else:
        runs = Text("; there is no earlier one to run", "。以前の正しい設定もありません")
    return failed(
        Text(
            f"{_short(first)}{f' and {more} more' if more else ''}{runs}",
            f"{_short(first.ja)}{f' ほか{more}件' if more else ''}{runs.ja}",
        ),
        Text(
            f"`yukimi config check --config {site.config_file}`, correct it, reload",
            f"`yukimi config check --config {site.config_file}` で確認し、修正して再読み込みします",
        ),
    )


@check(
    "YK-CFG-03",
    Text("configuration in use", "使用中の設定"),
    blink=Blink.SOFTWARE,
    needs=("YK-CFG-02",),
    what=Text(
        "Whether the running gateway uses what is in the file now, or was applied over it.",
        "運転中の装置が、現在のファイルの内容、またはその後に適用された設定で動いているかどうかを"
        "確認します。",
    ),
    why=Text(
        "A file that was edited acts only after a reload; one that was refused does not act at "
        "all.",
        "編集した内容は再読み込みするまで反映されません。拒否された場合はまったく反映されません。",
    ),
    do=(
        Text(
            "`sudo systemctl reload yukimi`, then run the doctor again.",
            "`sudo systemctl reload yukimi` を実行し、再度点検します。",
        ),
        Text(
            "If it is refused again: `journalctl -u yukimi -n 50` names the reason.",
            "再び拒否される場合は `journalctl -u yukimi -n 50` に理由があります。",
        ),
    ),
)
def in_use(site: Site, _: None) -> Finding:
    """Hold the file against the daemon's word."""
    daemon, wanted = site.daemon, site.wanted
    if daemon is None or wanted is None:
        return skipped("no running gateway answers", "運転中の装置から応答がありません")
    then = Text(
        "`sudo systemctl reload yukimi`", "`sudo systemctl reload yukimi` を実行してください"
    )
    gateway = told.part(site, "gateway")
    runs_id = gateway.get("config")
    if gateway.get("refused"):
        why = str(gateway["refused"][0])
        return failed(
            Text(f"it was refused: {_short(why)}", f"拒否されています: {_short(why)}"), then
        )
    if runs_id != wanted.loaded.config_id:
        return warned(
            Text(
                f"the file is {wanted.loaded.config_id}, the gateway runs {runs_id}",
                f"ファイルは {wanted.loaded.config_id}、運転中は {runs_id} です",
            ),
            then,
        )
    number = gateway.get("applied")
    if number is not None:
        return passed(
            f"{runs_id} runs, applied over the file as configuration {number}",
            f"{runs_id} で運転中（ファイルの代わりに適用された設定 {number}）",
        )
    return passed(f"{runs_id} runs", f"{runs_id} で運転中")


@check(
    "YK-CFG-04",
    Text("secrets", "秘密情報"),
    blink=Blink.SOFTWARE,
    needs=("YK-CFG-02",),
    what=Text(
        "Whether the files of passwords and keys can be read by the gateway and by nobody else, "
        "and whether others could rewrite the configuration.",
        "パスワードと鍵のファイルを装置だけが読めるか、設定を他人が書き換えられないかを確認しま"
        "す。",
    ),
    why=Text(
        "Whoever reads them can speak in the gateway's name; one that the gateway cannot read "
        "keeps it from connecting.",
        "読み取った者はこの装置になりすませます。装置が読み取れなければ接続できません。",
    ),
    do=(
        Text(
            "`sudo chown root:yukimi FILE; sudo chmod 640 FILE` for each file named.",
            "表示された各ファイルに `sudo chown root:yukimi FILE; sudo chmod 640 FILE` を実行し"
            "ます。",
        ),
        Text(
            "A secret that others may have read should be replaced.",
            "他人に読まれた可能性のある秘密情報は、新しいものに替えてください。",
        ),
    ),
)
def secrets_kept(site: Site, _: None) -> Finding:
    """Look at modes and owners."""
    from agent.trust import OPEN_TO_OTHERS

    plan = site.wanted
    if plan is None:
        return skipped("no valid configuration", "正しい設定がありません")
    uplink = plan.loaded.config.uplink
    named = [uplink.password_file, uplink.tls.key_file]
    secrets = [plan.loaded.file(name) for name in named if name is not None]
    others = [plan.loaded.file(uplink.tls.cert_file)] if uplink.tls.cert_file else []
    for file in (site.config_file, *secrets):
        mode = _mode(file)
        if mode & stat.S_IWOTH:
            return failed(
                Text(f"anybody may write {file}", f"{file} を誰でも書き換えられます"),
                Text(f"`sudo chmod o-w {file}`", f"`sudo chmod o-w {file}` を実行してください"),
            )
    for file in (site.config_file, *secrets, *others):
        if not _may_read(site, file):
            name = (site.user() or ("yukimi",))[0]
            return failed(
                Text(f"user {name} may not read {file}", f"利用者 {name} が {file} を読めません"),
                Text(
                    f"`sudo chgrp {name} {file}; sudo chmod g+r {file}`",
                    f"`sudo chgrp {name} {file}; sudo chmod g+r {file}` を実行してください",
                ),
            )
    for file in secrets:
        if _mode(file) & OPEN_TO_OTHERS:
            return failed(
                Text(
                    f"{file} is open to others: the gateway does not use it",
                    f"{file} は他人に開かれています。装置はこれを使いません",
                ),
                Text(f"`sudo chmod 640 {file}`", f"`sudo chmod 640 {file}` を実行してください"),
            )
    if not secrets:
        return passed("none configured", "設定されていません")
    return passed(f"{len(secrets)} files, closed to others", f"{len(secrets)}件、他人は読めません")


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:
        return 0


def _may_read(site: Site, file: Path) -> bool:
    """Tell whether the daemon's user may read a file; where nobody knows, it may."""
    user = site.user()
    if user is None:
        return True
    _, uid, groups = user
    try:
        there = file.stat()
    except OSError:
        return True  # whether it is there is the configuration's check
    if there.st_uid == uid:
        return bool(there.st_mode & stat.S_IRUSR)
    if there.st_gid in groups:
        return bool(there.st_mode & stat.S_IRGRP)
    return bool(there.st_mode & stat.S_IROTH)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
