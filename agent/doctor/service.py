"""Does systemd keep the gateway running, and does the gateway answer?"""

from __future__ import annotations

from config.text import Text

from . import told
from .findings import Blink, Finding, check, failed, passed, skipped, warned
from .site import Site, SlowProgramError

MANY_RESTARTS = 5
_NO_SYSTEMD = ("systemd does not run here", "systemdが動作していません")


def gateways(site: Site) -> list[int]:
    """Return the processes that are a running gateway, as far as we may see."""
    return [pid for pid, _, line in site.processes() if is_gateway(site, pid, line)]


def is_gateway(site: Site, pid: int, line: str) -> bool:
    """Tell whether a process is a gateway."""
    if site.unit.get("MainPID") == str(pid):
        return True
    words = line.split()
    return "run" in words and any(each.endswith("yukimi") or each == "agent" for each in words)


@check(
    "YK-SVC-01",
    Text("service allowed", "サービスの登録"),
    blink=Blink.SOFTWARE,
    what=Text(
        "Whether systemd knows the service, may start it, and does so after a power cut.",
        "systemdにサービスが登録され、停電後も自動で起動するかどうかを確認します。",
    ),
    why=Text(
        "A masked unit cannot be started by anything; one that is not enabled does not come back "
        "by itself.",
        "マスクされたサービスは起動できません。有効化されていないと、再起動後に動きません。",
    ),
    do=(
        Text(
            "`systemctl status yukimi` shows its state.",
            "`systemctl status yukimi` で状態を確認します。",
        ),
        Text(
            "Masked: `sudo systemctl unmask yukimi`. Then `sudo systemctl enable --now yukimi`.",
            "マスク時: `sudo systemctl unmask yukimi`。続けて "
            "`sudo systemctl enable --now yukimi`。",
        ),
    ),
)
def allowed(site: Site, _: None) -> Finding:
    """Ask systemd for the unit's file."""
    if not site.has_systemd:
        return skipped(*_NO_SYSTEMD)
    if site.unit_silence is not None:
        return warned(
            site.unit_silence,
            Text(
                "`systemctl status yukimi` and `uptime`: is the machine overloaded?",
                "`systemctl status yukimi` と `uptime` で過負荷を確認してください",
            ),
        )
    unit = site.unit
    load, file = unit.get("LoadState", ""), unit.get("UnitFileState", "")
    enable = Text(
        "`sudo systemctl enable --now yukimi`",
        "`sudo systemctl enable --now yukimi` を実行してください",
    )
    if load == "masked" or file.startswith("masked"):
        return failed(
            Text("the unit is masked", "サービスがマスクされています"),
            Text(
                "`sudo systemctl unmask yukimi && sudo systemctl enable --now yukimi`",
                "`sudo systemctl unmask yukimi && sudo systemctl enable --now yukimi` を実行し"
                "てください",
            ),
        )
    if load == "not-found":
        return skipped("not installed as a service", "サービスとして登録されていません")
    if file == "disabled":
        return warned(
            Text("it does not start by itself after a power cut", "停電後に自動で起動しません"),
            enable,
        )
    return passed(f"{load}, {file}", f"{load}、{file}")


@check(
    "YK-SVC-02",
    Text("service running", "サービスの稼働"),
    blink=Blink.SOFTWARE,
    needs=("YK-SVC-01",),
    excused_by=("YK-CFG-01", "YK-CFG-02", "YK-CFG-04"),
    what=Text(
        "Whether the service runs, and stays running.",
        "サービスが稼働し、再起動を繰り返していないかを確認します。",
    ),
    why=Text(
        "While it does not run nothing is measured. One that is started again and again loses a "
        "window each time.",
        "停止中は測定されません。再起動を繰り返すと、そのたびに測定が途切れます。",
    ),
    do=(
        Text(
            "`journalctl -u yukimi -n 50` tells why it ended.",
            "`journalctl -u yukimi -n 50` で終了の理由を確認します。",
        ),
        Text(
            "Exit code 78 means that the configuration must be edited: `yukimi config check`.",
            "終了コード78は設定の誤りです。`yukimi config check` を実行します。",
        ),
        Text(
            "`sudo systemctl restart yukimi` once the reason is gone.",
            "原因を取り除いたら `sudo systemctl restart yukimi` を実行します。",
        ),
    ),
)
def running(site: Site, _: None) -> Finding:
    """Ask systemd for the unit's state."""
    if not site.has_systemd:
        return skipped(*_NO_SYSTEMD)
    if site.unit_silence is not None:
        return skipped(site.unit_silence, site.unit_silence.ja)
    unit = site.unit
    if unit.get("LoadState") == "not-found":
        return skipped("not installed as a service", "サービスとして登録されていません")
    state, sub = unit.get("ActiveState", ""), unit.get("SubState", "")
    restarts = int(unit.get("NRestarts") or 0)
    told = Text(
        f"{state} ({sub}), result {unit.get('Result')}, exit code {unit.get('ExecMainStatus')}",
        f"{state}（{sub}）、結果 {unit.get('Result')}、終了コード {unit.get('ExecMainStatus')}",
    )
    log = Text(
        "`journalctl -u yukimi -n 50` tells why", "`journalctl -u yukimi -n 50` で理由を確認します"
    )
    if sub == "auto-restart" or (state != "active" and restarts >= MANY_RESTARTS):
        return failed(
            Text(
                f"it is restarted again and again, {restarts} times: {told}",
                f"再起動を繰り返しています（{restarts}回）: {told.ja}",
            ),
            log,
        )
    if state != "active":
        return failed(
            Text(f"it does not run: {told}", f"停止しています: {told.ja}"),
            Text(
                "`sudo systemctl start yukimi`; if it ends again, `journalctl -u yukimi -n 50`",
                "`sudo systemctl start yukimi`。再び止まる場合は `journalctl -u yukimi -n 50`",
            ),
        )
    if restarts >= MANY_RESTARTS:
        return warned(
            Text(f"running, restarted {restarts} times", f"稼働中、再起動{restarts}回"), log
        )
    return passed("running", "稼働中")


@check(
    "YK-SVC-03",
    Text("gateway answers", "装置の応答"),
    blink=Blink.SOFTWARE,
    needs=("YK-SVC-02",),
    what=Text(
        "Whether the running gateway answers on its control socket.",
        "運転中の装置が制御用ソケットで応答するかどうかを確認します。",
    ),
    why=Text(
        "What it says is better than what can be seen from outside: without it sensors and "
        "broker are asked directly.",
        "装置自身の報告が最も確かです。応答がない場合、センサーと中継サーバーに直接問い合わせま"
        "す。",
    ),
    do=(
        Text(
            "`yukimi status` asks the same; it needs root, or membership in the group yukimi.",
            "`yukimi status` も同じ問い合わせをします。rootかグループyukimiの権限が必要です。",
        ),
        Text(
            "If it runs and never answers: `sudo systemctl restart yukimi`.",
            "稼働中なのに応答しない場合は `sudo systemctl restart yukimi` を実行します。",
        ),
    ),
)
def answering(site: Site, _: None) -> Finding:
    """Ask the daemon."""
    from agent import __version__

    if site.daemon is not None:
        version = str(told.part(site, "gateway").get("version", ""))
        if version and version != __version__:
            return warned(
                Text(
                    f"it runs {version}, installed is {__version__}",
                    f"稼働中は {version}、導入済みは {__version__} です",
                ),
                Text(
                    "`sudo systemctl restart yukimi`",
                    "`sudo systemctl restart yukimi` を実行してください",
                ),
            )
        return passed(f"yukimi {__version__} answers", f"yukimi {__version__} が応答しています")
    if site.unit.get("ActiveState") == "active":
        why = site.silence or Text("it runs and does not answer", "稼働していますが応答しません")
        return warned(
            why,
            Text(
                "run the doctor with sudo; if that is no help, `sudo systemctl restart yukimi`",
                "sudo を付けて再実行し、それでも応答がなければ `sudo systemctl restart yukimi`",
            ),
        )
    if site.silence is not None and gateways(site):
        return skipped(site.silence, site.silence.ja)
    return skipped("no gateway runs: everything is asked directly", "停止中のため直接確認します")


@check(
    "YK-SVC-04",
    Text("hardware watchdog", "ハードウェア監視"),
    blink=Blink.SOFTWARE,
    what=Text(
        "Whether a frozen kernel is restarted by the board's watchdog.",
        "カーネルが固まったとき、基板の監視タイマーで再起動するかどうかを確認します。",
    ),
    why=Text(
        "systemd restarts a gateway that hangs; when the kernel hangs, only the hardware can. "
        "Otherwise somebody must drive there.",
        "装置のプログラムはsystemdが再起動しますが、カーネルが固まると現地での作業が必要になり"
        "ます。",
    ),
    do=(
        Text(
            "Put `RuntimeWatchdogSec=15` into /etc/systemd/system.conf.d/watchdog.conf, below "
            "[Manager], and restart.",
            "/etc/systemd/system.conf.d/watchdog.conf の[Manager]に `RuntimeWatchdogSec=15` と"
            "書き、再起動します。",
        ),
    ),
)
def watchdog(site: Site, _: None) -> Finding:
    """Ask systemd whether it uses the board's watchdog."""
    if not site.has_systemd:
        return skipped(*_NO_SYSTEMD)
    if not any(name.startswith("watchdog") for name in site.names("/dev")):
        return skipped("this board has none", "この基板にはありません")
    try:
        said = site.run_program(["systemctl", "show", "--property=RuntimeWatchdogUSec"]) or ""
    except SlowProgramError as exc:
        return skipped(exc.text, exc.text.ja)
    value = said.strip().partition("=")[2]
    if value in ("", "0", "infinity"):
        return warned(
            Text("there is one, and it is not used", "搭載されていますが、使われていません"),
            Text(
                "set RuntimeWatchdogSec=15 for systemd",
                "systemdの RuntimeWatchdogSec=15 を設定してください",
            ),
        )
    return passed(f"within {value}", f"{value}以内")
