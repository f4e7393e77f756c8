"""What a first set-up asks about a gateway, and what an answer must be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from config.model import GatewayTable, SensorTable, SpoolTable
from config.places import DEFAULT_PATH
from config.text import Text

from . import typed
from .draft import Answers
from .interview import Interview, Question

DEFAULT_SPOOL = SpoolTable().path

ID = Question(
    "--id",
    Text("Id of this gateway", "このゲートウェイのID"),
    Text(
        "The city knows it by this name, and the topics have it. One name, one gateway.",
        "市側はこの名前で識別し、トピック名にも入ります。他のゲートウェイと重複しない名前にします。",
    ),
    typed.identifier,
    Text("1 to 64 characters of a-z, 0-9 and -", "a-z、0-9、- を1～64文字で入力してください"),
)
LABEL_JA = Question(
    "--label-ja",
    Text("Its name for people, in Japanese", "設置場所などの名称（日本語）"),
    Text(
        'Such as "北3条 積雪". Enter leaves it out.', "例: 北3条 積雪。不要ならEnterで省略します。"
    ),
    typed.printable,
    Text("one line of text", "1行の文字列で入力してください"),
    default="",
)
LABEL_EN = Question(
    "--label-en",
    Text("Its name for people, in English", "設置場所などの名称（英語）"),
    Text('Such as "N3 snow". Enter leaves it out.', "例: N3 snow。不要ならEnterで省略します。"),
    LABEL_JA.parse,
    LABEL_JA.wrong,
    default="",
)
LOCATION = Question(
    "--location",
    Text("Latitude and longitude", "緯度と経度"),
    Text(
        "Degrees, WGS 84, as maps show them: 43.0640, 141.3510. Enter leaves it out.",
        "地図に表示される度の値（WGS 84）。例: 43.0640, 141.3510。不要ならEnterで省略します。",
    ),
    typed.location,
    Text(
        "two numbers in degrees, latitude first: 43.0640, 141.3510",
        "緯度、経度の順に度で入力してください。例: 43.0640, 141.3510",
    ),
    default="",
)
BROKERS = Question(
    "--broker",
    Text("The city's broker", "市の中継サーバー"),
    Text(
        "mqtts://HOST:8883, or mqtt://HOST without encryption; several with commas, in the order "
        "in which they are tried.",
        "mqtts://ホスト名:8883（暗号化なしは mqtt://ホスト名）。複数ある場合は試す順にコンマで"
        "区切ります。",
    ),
    typed.brokers,
    Text(
        "mqtts://HOST:PORT or mqtt://HOST:PORT, without user, password or path",
        "mqtts://ホスト名:ポート または mqtt://ホスト名:ポート の形で入力してください"
        "（利用者名・パスワード・パスは含めません）",
    ),
)
USERNAME = Question(
    "--username",
    Text("User name at the broker", "中継サーバーの利用者名"),
    Text("Enter: the broker asks for none.", "利用者認証がなければEnterで省略します。"),
    LABEL_JA.parse,
    LABEL_JA.wrong,
    default="",
)
PASSWORD = Question(
    "--password-file",
    Text("Password (it is not shown)", "パスワード（画面には表示されません）"),
    Text(
        "It goes into a file of its own beside the configuration, which only its owner can read.",
        "設定ファイルとは別の、所有者だけが読めるファイルに保存します。",
    ),
    typed.secret,
    Text("one line, not empty", "1行で入力してください"),
    is_secret=True,
)
CA_FILE = Question(
    "--ca-file",
    Text("File of the certificate authority (PEM)", "認証局の証明書ファイル（PEM）"),
    Text(
        "Where the broker's certificate is of the city's own authority. Enter: one that this "
        "machine trusts.",
        "中継サーバーの証明書が市独自の認証局による場合に指定します。一般の認証局ならEnterで省略"
        "します。",
    ),
    typed.file,
    Text("there is no such file that can be read", "そのファイルがないか、読めません"),
    default="",
)
WINDOW = Question(
    "--window",
    Text("A record of each sensor every how many seconds", "センサーごとの記録間隔（秒）"),
    Text(
        "What is measured meanwhile becomes mean, least and greatest. People are always counted "
        "for 15 minutes.",
        "その間の測定値は平均・最小・最大にまとめます。通行者数は常に15分単位です。",
    ),
    typed.window_s,
    Text(
        "a whole number that divides 3600: 10, 60, 600",
        "3600を割り切る整数にしてください: 10、60、600 など",
    ),
    default="60",
)
SPOOL = Question(
    "--spool",
    Text("File in which records wait for the network", "送信待ちの記録を保管するファイル"),
    Text(
        "Up to 512 MiB, about 100 days of eight sensors. On a disk that stays, best no SD card.",
        "最大512MiB、センサー8台で約100日分です。再起動後も残る記憶媒体を指定してください。",
    ),
    typed.spool,
    Text(
        "the path of a file, in a folder that there is or can be made",
        "作成できるフォルダー内のファイル名を指定してください",
    ),
)
CLOCK = Question(
    "--clock",
    Text(
        "The kernel does not vouch for the clock. Believe: kernel or system",
        "システムの時計は未同期です。信頼する時計（kernel / system）",
    ),
    Text(
        "kernel: times are held back or marked as estimates until a time server, an RTC or GNSS "
        "agrees; right in the field. system: the clock is believed as it is; for a trial.",
        "kernel: 時刻サーバー・RTC・GNSSで確認できるまで、時刻を推定値として扱います"
        "（通常はこちら）。system: システムの時計をそのまま使います（試用向け）。",
    ),
    typed.trust,
    Text("kernel or system", "kernel か system で答えてください"),
    default="kernel",
)


def ask_about_gateway(
    interview: Interview, config: Path, *, password: str | None, is_clock_synced: bool
) -> tuple[Answers, str | None]:
    """Ask all; return the answers, and the password where it must be written to a file.

    `password` is the name of a file that holds it already. What found no answer is in
    `interview.missing`. Raises WrongAnswerError, KeyboardInterrupt.
    """
    ask = interview.ask
    said, secret = Answers(), None
    said.gateway = ask(_with_default(ID, GatewayTable().id)) or ""
    said.label_ja = ask(LABEL_JA) or ""
    said.label_en = ask(LABEL_EN) or ""
    said.location = ask(LOCATION)
    said.brokers = ask(BROKERS) or []
    said.username = ask(USERNAME) or ""
    if password is not None:
        said.password_file = password
    elif said.username:
        secret = ask(PASSWORD)
    if any(url.startswith("mqtts:") for url in said.brokers):
        said.ca_file = ask(CA_FILE) or ""
    said.window_s = ask(WINDOW) or 60
    said.spool = ask(_with_default(SPOOL, str(default_spool(config)))) or ""
    said.trust = "kernel" if is_clock_synced else ask(CLOCK) or "kernel"
    return said, secret


def default_spool(config: Path) -> Path:
    """Return where records wait: where the service has its state, or beside a file elsewhere."""
    is_the_services = config.absolute().parent == DEFAULT_PATH.parent
    return Path(DEFAULT_SPOOL) if is_the_services else config.absolute().parent / "spool.db"


def sensor_id(proposed: str, taken: Iterable[str]) -> Question[str]:
    """Ask what a sensor is called."""
    others = set(taken)

    def parse(answer: str) -> str:
        SensorTable(
            id=typed.identifier(answer), driver="", bus=""
        )  # "alerts" and "gateway" are not free
        if answer in others:
            raise ValueError(answer)
        return answer

    return Question(
        f"--name {proposed}",
        Text("  its id", "  センサーのID"),
        Text("It names its records.", "記録の名前になります。"),
        parse,
        Text(
            "1 to 64 characters of a-z, 0-9 and -, which no other sensor has",
            "a-z、0-9、- を1～64文字で、他のセンサーと重複しない名前にしてください",
        ),
        default=proposed,
    )


def _with_default(question: Question[str], default: str) -> Question[str]:
    return replace(question, default=default)
