"""The probe is found whatever the kernel prints between and into its lines; a liar is not believed."""

import base64
import gzip
import hashlib
import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c.model import KIB, MIB
from v2c.validate.console import failure, find_probe

NONCE = "0123456789abcdef"
SECTIONS = {
    "hostname": "erp\n",
    "passwd": "root:x:0:0:root:/root:/bin/bash\n" * 40,
    "mounts": "/ /dev/vda1 ext4 \u00e9\n",
    "end": "",
}


def payload(nonce: str = NONCE, sections: dict[str, str] = SECTIONS, **more: object) -> str:
    told = {name: base64.b64encode(text.encode()).decode() for name, text in sections.items()}
    document = {"v": 1, "nonce": nonce, "sections": told, **more}
    dice = random.Random(1)  # does not compress, so that there are many chunks
    document["sections"] |= {"noise": base64.b64encode(dice.randbytes(1500)).decode()}  # type: ignore[operator]
    return base64.b64encode(gzip.compress(json.dumps(document).encode(), mtime=0)).decode()


def lines(text: str, nonce: str = NONCE, sum: str = "") -> list[str]:
    chunks = [text[at : at + 200] for at in range(0, len(text), 200)]
    sum = sum or hashlib.sha256(text.encode()).hexdigest()
    return [f"V2C1 {nonce} {n}/{len(chunks)} {sum} {len(text)} {chunk}" for n, chunk in enumerate(chunks, 1)]


def said(all: list[str]) -> str:
    return "".join(f"\r\n{line}\r\n" for line in all)


KERNEL = st.builds(
    lambda seconds, words: f"[{seconds:12.6f}] {words}\r\n",
    st.floats(0, 99999),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)
STATUS = st.sampled_from(
    ["\r\n[  \x1b[0;32mOK\x1b[0m  ] Started \x1b[0;1;39mssh.service\x1b[0m.\r\n", "debian login: ", "\x1b[2J\x1b[01;01H"]
)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_found_among_and_inside_other_words(data: st.DataObject) -> None:
    """Three repetitions; before each line anything, and into some lines a kernel message."""
    out = ["boot\r\n"]
    for _ in range(3):
        for line in lines(payload()):
            if data.draw(st.booleans()):
                out.append(data.draw(KERNEL | STATUS))
            if data.draw(st.integers(0, 3)) == 0:
                at = data.draw(st.integers(0, len(line)))
                line = line[:at] + data.draw(KERNEL) + line[at:]
            out.append(f"\r\n{line}\r\n")
    probe = find_probe("".join(out), NONCE)
    assert probe is not None
    assert {name: probe[name] for name in SECTIONS} == SECTIONS


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_chunks_come_from_any_repetition(data: st.DataObject) -> None:
    """Each line is whole in one of three repetitions; elsewhere it is lost, cut short or lacks a piece."""
    whole = lines(payload())
    lucky = [data.draw(st.integers(0, 2)) for _ in whole]
    out = []
    for repetition in range(3):
        for line, good in zip(whole, lucky, strict=True):
            if repetition == good:
                out.append(line)
            else:
                how = data.draw(st.sampled_from(["lost", "cut", "gap"]))
                at = data.draw(st.integers(0, len(line) - 10))
                out += {"lost": [], "cut": [line[:at]], "gap": [line[:at] + line[at + 7 :]]}[how]
    probe = find_probe(said(out), NONCE)
    assert probe is not None and probe["hostname"] == "erp\n"


def test_not_before_it_is_complete() -> None:
    text = said(lines(payload()))
    for cut in range(0, len(text) - 2, 97):
        assert find_probe(text[:cut], NONCE) is None
    assert find_probe(text[: len(text) - 3], NONCE) is None, "the last chunk may go on"
    assert find_probe(text, NONCE) is not None


def test_the_last_chunk_may_look_whole_when_the_console_is_cut() -> None:
    text = said(lines(payload())).rstrip()
    assert find_probe(text, NONCE) is None


def test_another_runs_probe_is_not_ours() -> None:
    assert find_probe(said(lines(payload("ffff"), "ffff")), NONCE) is None
    assert find_probe(said(lines(payload("ffff"))), NONCE) is None, "our nonce on the line, another one inside"


def test_a_wrong_digest_is_no_probe() -> None:
    assert find_probe(said(lines(payload(), sum="0" * 64)), NONCE) is None


def test_another_digest_before_the_right_one_does_not_hide_it() -> None:
    assert find_probe(said(lines(payload(), sum="0" * 64) + lines(payload())), NONCE) is not None


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"v":2}', b'{"v":1,"nonce":"0123456789abcdef","sections":[]}', b"[" * 100_000])
def test_other_documents_are_no_probe(body: bytes) -> None:
    assert find_probe(said(lines(base64.b64encode(gzip.compress(body)).decode())), NONCE) is None


def test_a_bomb_is_not_unpacked() -> None:
    text = base64.b64encode(gzip.compress(b"[" + b" " * (64 * MIB) + b"]")).decode()
    began = time.process_time()
    assert find_probe(said(lines(text)), NONCE) is None
    assert time.process_time() - began < 10


def test_a_flood_of_contradictions_ends() -> None:
    """Sixteen megabytes of lines with our nonce that never fit together."""
    dice = random.Random(2)
    sums = [f"{dice.getrandbits(256):064x}" for _ in range(300)]
    text = "".join(
        f"V2C1 {NONCE} {dice.randint(1, 40)}/40 {dice.choice(sums)} 8000 {'A' * 100}{dice.getrandbits(400):0100x}\n"
        for _ in range(50_000)
    )
    began = time.process_time()
    assert len(text) > 14 * MIB and find_probe(text, NONCE) is None
    assert time.process_time() - began < 30


@given(st.text(max_size=2000))
def test_any_console_is_survived(text: str) -> None:
    assert find_probe(text + f"V2C1 {NONCE} 1/1 x", NONCE) is None
    failure(text)


def test_sections_are_bounded() -> None:
    probe = find_probe(said(lines(payload(sections={"big": "x" * MIB}))), NONCE)
    assert probe is not None and len(probe["big"]) == 256 * KIB
