"""Names in zips of Windows, of which most do not say how they are encoded."""

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from pipelines.media.archive import from_zip
from pipelines.media.zip_names import member_names
from tests.media.test_inputs import names, png

GB, SJIS, BIG5, KOREAN, DOS = "gb18030", "cp932", "cp950", "cp949", "cp437"


class StoredName(zipfile.ZipInfo):
    """A member whose name is written as bytes without the flag for UTF-8."""

    stored = b""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.stored, self.flag_bits & ~0x800


def write_zip(path: Path, stored: list[bytes], extras: list[bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(stored):
            member = StoredName(f"{number}.png")
            member.stored = name
            member.extra = extras[number] if extras else b""
            archive.writestr(member, png(number))
    return path


def unicode_path(name: str, stored: bytes) -> bytes:
    """Return Info-ZIP's field 0x7075 as its specification describes it."""
    data = struct.pack("<BI", 1, zlib.crc32(stored)) + name.encode()
    return struct.pack("<HH", 0x7075, len(data)) + data


@pytest.mark.parametrize(
    ("encoding", "given"),
    [
        (GB, ["照片/红色圆形.png", "照片/黄色星星.png"]),
        (GB, ["微信图片_20240101.jpg"]),
        (GB, ["新建文件夹/我的小猫.png", "IMG_0001.png"]),
        (SJIS, ["写真/赤い丸.png", "写真/表示.png"]),  # the second byte of 表 is a backslash
        (SJIS, ["テスト.png"]),  # in code page 437 it looks like Latin letters
        (SJIS, ["ソフト/能力.png", "スクリーンショット.png"]),
        (BIG5, ["功能.png"]),  # the second byte of 功 is a backslash
        (BIG5, ["照片/紅色圓形.png", "許功蓋.png"]),
        (KOREAN, ["사진/빨간원.png", "새폴더/고양이.png"]),
        (DOS, ["Größe.png"]),
        (DOS, ["Grüße/Müller.png", "Düsseldorf für uns.png"]),
        (DOS, ["été/café.png", "Señor año.png"]),
        ("utf-8", ["照片/红.png", "é.png"]),  # macOS
    ],
)
def test_names_without_an_encoding(tmp_path: Path, encoding: str, given: list[str]) -> None:
    stored = [name.encode(encoding) for name in given]
    with from_zip(write_zip(tmp_path / "a.zip", stored)) as inputs:
        assert names(inputs) == given
        for number, item in enumerate(inputs.items):
            assert item.source.read() == png(number)


def test_one_name_is_read_as_the_others(tmp_path: Path) -> None:
    """The bytes of 猫 in GBK are a valid "è" in UTF-8, alone."""
    given = ["猫.png", "照片.png", "狗和鸟.png"]
    with from_zip(write_zip(tmp_path / "a.zip", [name.encode("gbk") for name in given])) as inputs:
        assert names(inputs) == given


def test_the_field_of_info_zip(tmp_path: Path) -> None:
    given = ["红色.png", "赤い丸.png", "紅色\\圓.png"]
    stored = [name.encode(encoding) for name, encoding in zip(given, (GB, SJIS, BIG5), strict=True)]
    extras = [unicode_path(name, data) for name, data in zip(given, stored, strict=True)]
    with from_zip(write_zip(tmp_path / "a.zip", stored, extras)) as inputs:
        assert names(inputs) == ["红色.png", "赤い丸.png", "紅色/圓.png"]


@pytest.mark.parametrize(
    "extra",
    [
        unicode_path("other.png", b"renamed"),
        unicode_path("other.png", "红色圆.png".encode(GB))[:-3],
        struct.pack("<HH", 0x7075, 2) + b"\x01\x00",
        b"up\x00",
    ],
    ids=["another name", "cut off", "too short", "no field"],
)
def test_a_field_that_is_not_of_this_name(extra: bytes) -> None:
    member = zipfile.ZipInfo("红色圆.png".encode(GB).decode(DOS))
    member.extra = extra
    assert member_names([member]) == ["红色圆.png"]


def test_a_backslash_is_a_folder_only_where_it_is_a_character(tmp_path: Path) -> None:
    given = ["表\\表示.png", "写真\\ソ.png"]
    with from_zip(write_zip(tmp_path / "a.zip", [name.encode(SJIS) for name in given])) as inputs:
        assert names(inputs) == ["表/表示.png", "写真/ソ.png"]


def test_captions_are_found_beside_such_names(tmp_path: Path) -> None:
    stored = ["照片/红色圆形.png".encode(GB), "照片/红色圆形.txt".encode(GB)]
    path = write_zip(tmp_path / "a.zip", stored)
    with from_zip(path) as inputs:
        assert inputs.items[0].source.read_caption() == png(1)
