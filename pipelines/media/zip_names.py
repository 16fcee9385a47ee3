"""Names of the members of a zip archive, also where it does not say how they are encoded."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_UTF8_FLAG = 0x800

#: Info-ZIP's extra field with the name in UTF-8.
_UNICODE_PATH = 0x7075

#: Frequent characters of names in Chinese and Japanese, and in Korean.
_HAN = frozenset(
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心"
    "多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将"
    "外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被"
    "走电四第门相次东政海口使教西再平真听世气信北少关并内加化由代军产入先山五太水万市眼体别处总场师书比住员九笑"
    "性通目华报立马命张活难神数件安表原车白应路期常提感金何更反合放做系计或利受光王果亲界及今京务制解各任至清物"
    "台象记边共风战接它许八特望直服林题建南度统色字请交爱认算论百吃义科元社术结六功指思非流每青管连远资队带花快条"
    "院变联权展领传近留红治周保达办运半七城父强步完深区求品士转量空技程告江语英基式李写识黄收钱未取设始版双历史商"
    "千片容研像找友站广改形早房音火单据导影失网专石校读志飞观包组视图照截屏幕拍摄副本圆星方三角猫狗鸟鱼绿蓝紫灰黑"
    "這個來國說們為時會學對過後麼開發現經頭動兩長樣將與進實點種聲話兒問機給幾業間電門東無見關並內產場師書員報馬"
    "張難數應車處總體別統愛認論義術結連遠資隊帶條變聯權領傳紅決達辦運圖檔案夾圓綠藍貓鳥魚螢畫測試臺灣單標題"
    "写真画像図表示新規保存版用紙会議資料報告書請求見積契約設計仕様製品株式赤青黄緑丸円犬猫鳥魚花空桜駅尔哈滨蝶旅行動物気"
    "帰変発学校売買読対応済確認最終版料理夏冬春秋朝昼夜京都東大阪"
)
_HANGUL = frozenset(
    "이다는의에을가하고지를은한도로나서자기사리인아시정대있어수일그들만부해것여원제보전과라주면상구장니적게안신조스"
    "생소트공오화우경동중세무회모선계성문방명관마내연야너진파미비드국학년월림폴더새름복본캡처빨강랑노별형간개검고양"
    "녹색붉푸른꽃산바다여행가족친구음식테스트자료보고서계약견적최종수정결혼졸업풍카페서울부산증민영희바탕목없음당운남북"
    "현재할말봄겨밤낮집길물불눈손발얼굴마음사랑"
)


@dataclass(frozen=True)
class _Encoding:
    """An encoding of Windows, the standard set within it, and that set's last frequent code."""

    name: str
    core: str
    last_frequent: int


_ENCODINGS = (
    _Encoding("gb18030", "gb2312", 0xD7F9),
    _Encoding("cp932", "shift_jis", 0x9872),
    _Encoding("cp950", "big5", 0xC67E),
    _Encoding("cp949", "euc_kr", 0xC8FE),
)

#: Most names whose cost is computed; all must be valid.
_NUM_MEASURED = 1000

#: Costs of characters, about -ln of their probability in a name.
_ASCII, _ACCENTED, _KANA, _FREQUENT, _KNOWN = 4.0, 6.0, 5.0, 5.8, 9.0
_SYMBOL, _HALF_WIDTH, _RARE, _OUTSIDE = 9.5, 12.5, 11.5, 14.0

#: Further cost of a Latin letter next to a character of East Asia.
_MIXED = 6.0


def member_names(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names of members with "/" between folders.

    A name is UTF-8 if its flag says so, or the one of Info-ZIP's field for UTF-8. The others are
    UTF-8 if all are valid (macOS writes them), else in the likeliest of code page 437, gb18030,
    cp932, Big5 and cp949 for all names together.
    """
    names: list[str | bytes] = [_stored(member) for member in members]
    unknown = [name for name in names if isinstance(name, bytes)]
    encoding = _likeliest(list(dict.fromkeys(unknown)))
    decoded = (_decoded(name, encoding) if isinstance(name, bytes) else name for name in names)
    return [name.replace("\\", "/") for name in decoded]


def _stored(member: zipfile.ZipInfo) -> str | bytes:
    """Return a name, or its bytes if their encoding is unknown."""
    name = member.orig_filename.split("\0")[0]
    if member.flag_bits & _UTF8_FLAG or name.isascii():
        return name
    try:
        stored = name.encode("cp437")
    except UnicodeError:  # decoded by `zipfile` itself
        return name
    return _unicode_path(member.extra, stored) or stored


def _unicode_path(extra: bytes, stored: bytes) -> str:
    """Return the name in Info-ZIP's field, "" if there is none for these bytes."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        value = extra[at + 4 : at + 4 + size]
        at += 4 + size
        if kind == _UNICODE_PATH and len(value) == size > 5 and value[0] == 1:
            if struct.unpack_from("<I", value, 1)[0] != zlib.crc32(stored):
                continue  # it was renamed since
            return value[5:].decode("utf-8", "ignore").split("\0")[0]
    return ""


def _decoded(name: bytes, encoding: str) -> str:
    try:
        return name.decode("utf-8" if encoding == "cp437" else encoding)
    except UnicodeError:
        return name.decode("cp437")


def _likeliest(names: Sequence[bytes]) -> str:
    if all(_is_valid(name, "utf-8") for name in names):
        return "utf-8"
    measured = names[:_NUM_MEASURED]
    best, least = "cp437", sum(_cost_437(name.decode("cp437")) for name in measured)
    for encoding in _ENCODINGS:
        if all(_is_valid(name, encoding.name) for name in names):
            cost = sum(_cost(name.decode(encoding.name), encoding) for name in measured)
            if cost < least:
                best, least = encoding.name, cost
    return best


def _is_valid(name: bytes, encoding: str) -> bool:
    try:
        name.decode(encoding)
    except UnicodeError:
        return False
    return True


def _cost_437(name: str) -> float:
    """Return the cost of a name in code page 437, the one of the zip format."""
    cost = 0.0
    for char in name:
        accented = char.isalpha() and char < "\u0250"
        cost += _ASCII if char.isascii() else _ACCENTED if accented else 2 * _ACCENTED
    return cost


def _cost(name: str, encoding: _Encoding) -> float:
    pairs = zip(name, name[1:], strict=False)
    mixed = sum((_is_latin(a) and b > "\x7f") or (a > "\x7f" and _is_latin(b)) for a, b in pairs)
    return mixed * _MIXED + sum(_char_cost(char, encoding) for char in name)


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalpha()


@lru_cache(maxsize=4096)
def _char_cost(char: str, encoding: _Encoding) -> float:
    if char.isascii():
        return _ASCII
    try:
        code = char.encode(encoding.core)
    except UnicodeError:
        return _OUTSIDE
    if len(code) != 2:
        return _HALF_WIDTH if len(code) == 1 else _OUTSIDE
    if "\u3041" <= char <= "\u30fe":
        return _KANA if encoding.core == "shift_jis" else _SYMBOL
    if not char.isalpha():
        return _SYMBOL
    if char in (_HANGUL if encoding.core == "euc_kr" else _HAN):
        return _FREQUENT
    return _KNOWN if int.from_bytes(code, "big") <= encoding.last_frequent else _RARE
