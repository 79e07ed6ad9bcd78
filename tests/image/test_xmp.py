"""Tests of XMP packets: places are removed, and records added."""

import logging
from typing import Any
from xml.dom import minidom

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.image import xmp

PACKET = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
  xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:drone="http://www.dji.com/drone-dji/1.0/"
  xmlns:xmp="http://ns.adobe.com/xap/1.0/" exif:GPSLatitude="52,31N" exif:ISO="100" tiff:Orientation="6"
  drone:GpsLongitude="13.4" drone:Latitude="52.5" xmp:Rating="5">
 <exif:GPSLongitude>13,24E</exif:GPSLongitude>
 <dc:creator><rdf:Seq><rdf:li>\xc3\x89mile</rdf:li></rdf:Seq></dc:creator>
 <xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>\0"""


def test_places_go() -> None:
    packet = xmp.adapted(PACKET, "a", keep_gps=False)
    text = packet.decode()
    for gone in ("GPS", "Gps", "Latitude", "52", "13", "Orientation", "Thumbnails"):
        assert gone not in text, gone
    for kept in ('exif:ISO="100"', 'xmp:Rating="5"', "Émile", "xpacket"):
        assert kept in text, kept
    minidom.parseString(packet)


def test_places_stay_where_asked() -> None:
    text = xmp.adapted(PACKET, "a", keep_gps=True).decode()
    for kept in ('exif:GPSLatitude="52,31N"', "<exif:GPSLongitude>13,24E", 'drone:Latitude="52.5"'):
        assert kept in text, kept
    assert "Orientation" not in text


@pytest.mark.parametrize("packet", [b"", PACKET])
def test_a_record(packet: bytes) -> None:
    record = {"style": 'a "quoted" <name> & more', "list": [1, 2.5, None, True], "ünï": "漢字\n\t\0\ud800"}
    with_record = xmp.adapted(packet, "a", keep_gps=True, record=record)
    assert xmp.record_in(with_record) == record
    if packet:
        assert b"xmp:Rating" in with_record
    # Another one takes its place, and none takes it away.
    assert xmp.record_in(xmp.adapted(with_record, "a", keep_gps=True, record={"b": 2})) == {"b": 2}
    assert xmp.record_in(xmp.adapted(with_record, "a", keep_gps=True)) is None
    assert xmp.record_in(packet) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"noise",
        PACKET[:-200],
        b"<a/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" * 5000 + b"</a>" * 5000,
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + b"<a>" * 5000 + b"</a>" * 5000 + b"</r:RDF>",
        b'<?xml version="1.0" encoding="unheard-of"?><a/>',
    ],
)
def test_what_cannot_be_parsed_is_left_out(packet: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert xmp.adapted(packet, "a.jpg", keep_gps=True) == b""
    assert caplog.messages[0].startswith("a.jpg: its XMP metadata")
    assert xmp.record_in(xmp.adapted(packet, "a.jpg", keep_gps=True, record={"a": 1})) == {"a": 1}


def test_a_damaged_record() -> None:
    packet = xmp.adapted(b"", "a", keep_gps=True, record={"a": 1})
    for damage in (packet.replace(b"{", b"["), packet.replace(b"{&quot;a&quot;:1}", b"[1]")):
        with pytest.raises(ValueError):  # noqa: PT011 - the text is json's
            xmp.record_in(damage)


@given(st.binary(max_size=100))
def test_noise_never_fails(noise: bytes) -> None:
    assert isinstance(xmp.adapted(noise, "a", keep_gps=False), bytes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values))
def test_every_record_comes_back(record: dict[str, Any]) -> None:
    assert xmp.record_in(xmp.adapted(PACKET, "a", keep_gps=False, record=record)) == record
