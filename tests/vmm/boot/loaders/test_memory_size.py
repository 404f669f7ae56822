"""Claims about sizes as people write them."""

import pytest

from emulator.errors import ConfigError
from vmm.boot.loaders.memory_size import parse_memory_size, size_text


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("256M", 256 << 20),
        ("256m", 256 << 20),
        (" 1G ", 1 << 30),
        ("3G", 3 << 30),
        ("6g", 6 << 30),
        ("16M", 16 << 20),
        ("16384K", 16 << 20),
        ("16777216", 16 << 20),
    ],
)
def test_sizes_with_suffixes_are_powers_of_1024(text: str, expected_bytes: int) -> None:
    assert parse_memory_size(text) == expected_bytes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a size"),
        ("M", "not a size"),
        ("-256M", "not a size"),
        ("1.5G", "not a size"),
        ("256MB", "not a size"),
        ("0x10M", "not a size"),
        ("1_000M", "not a size"),
        ("\u0662\u0665\u0666M", "not a size"),
        ("9" * 400, "not a size"),
        ("lots\nof it", "not a size"),
        ("0", "between 16 MiB and 16 GiB"),
        ("15M", "between 16 MiB and 16 GiB"),
        ("17G", "between 16 MiB and 16 GiB"),
        ("16777217K", "between 16 MiB and 16 GiB"),
        ("999999999999999G", "between 16 MiB and 16 GiB"),
        ("16777217", "multiple of the 4096 byte page"),
        ("16385K", "multiple of the 4096 byte page"),
    ],
)
def test_impossible_sizes_are_one_clear_line(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_memory_size(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1 << 10, "1 KiB"),
        ((256 << 20), "256 MiB"),
        (0x3378000, "51.5 MiB"),
        ((1 << 20) + 1, "1.1 MiB"),  # never less than it is
        (3 << 30, "3 GiB"),
    ],
)
def test_size_text_is_exact_or_rounded_up(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
