"""XMP packets: what a painting keeps of its photograph's, and the record of how it was made."""

import json
import logging
import re
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

log = logging.getLogger(__name__)

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
OURS = "urn:impasto:1.0:"
RECORD = "Record"

EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)

# These would no longer be true: they point to parts of the original file that are not copied.
STALE_NAMESPACES = frozenset(
    (
        "http://ns.adobe.com/xmp/note/",
        "http://ns.adobe.com/hdr-gain-map/1.0/",
        "http://ns.google.com/photos/1.0/container/",
        "http://ns.google.com/photos/1.0/depthmap/",
        "http://ns.google.com/photos/1.0/image/",
        OURS,
    )
)
STALE_NAMES = frozenset(
    (("http://ns.adobe.com/tiff/1.0/", "Orientation"), ("http://ns.adobe.com/xap/1.0/", "Thumbnails"))
)
PLACE = re.compile("^gps|latitude|longitude", re.IGNORECASE)


def adapted(packet: bytes, name: str, *, keep_gps: bool, record: dict[str, Any] | None = None) -> bytes:
    """Return the XMP packet of a painting, made from its photograph's.

    Parameters
    ----------
    packet : bytes
        The photograph's packet, or b"". One that cannot be parsed is left out, with a warning in the log.
    name : str
        Name of the photograph in the warning.
    keep_gps : bool
        Whether to keep coordinates.
    record : dict, optional
        How the painting was made, serialisable by `json.dumps`. An existing record is replaced or removed.

    Returns
    -------
    bytes
        The packet in UTF-8, or b"" if it would be empty.
    """
    try:
        return _adapted(packet, name, keep_gps, record)
    except RecursionError:
        log.warning("%s: its XMP metadata is nested too deeply; leaving it out", name)
        return _adapted(b"", name, keep_gps, record)


def _adapted(packet: bytes, name: str, keep_gps: bool, record: dict[str, Any] | None) -> bytes:
    document = _parsed(packet, name) if packet else None
    if document is not None and document.documentElement is not None:
        _prune(document.documentElement, keep_gps)
    if record is not None:
        document = document or minidom.parseString(EMPTY.encode())
        roots = document.getElementsByTagNameNS(RDF, "RDF")
        description = document.createElementNS(RDF, "rdf:Description")
        description.setAttributeNS("http://www.w3.org/2000/xmlns/", "xmlns:rdf", RDF)
        description.setAttributeNS("http://www.w3.org/2000/xmlns/", "xmlns:impasto", OURS)
        description.setAttributeNS(RDF, "rdf:about", "")
        description.setAttributeNS(OURS, f"impasto:{RECORD}", json.dumps(record, separators=(",", ":")))
        roots[0].appendChild(description)
    if document is None:
        return b""
    return "".join(node.toxml() for node in document.childNodes).encode()


def record_in(packet: bytes) -> dict[str, Any] | None:
    """Return the record that `adapted` put into a packet, or None.

    Raises
    ------
    ValueError
        If the record is not a JSON object.
    """
    document = _parsed(packet, "the picture") if OURS.encode() in packet else None
    for node in document.getElementsByTagNameNS(RDF, "Description") if document is not None else []:
        text = node.getAttributeNS(OURS, RECORD)
        if text:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            return record
    return None


def _parsed(packet: bytes, name: str) -> minidom.Document | None:
    try:
        if b"<!" in packet.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
            raise ValueError("it declares entities")
        document = minidom.parseString(packet.strip(b"\0 \t\r\n"))
        if not document.getElementsByTagNameNS(RDF, "RDF"):
            raise ValueError("it holds no RDF")
        return document
    except (ExpatError, ValueError, LookupError, AttributeError) as error:
        log.warning("%s: its XMP metadata cannot be read (%s); leaving it out", name, error)
        return None


def _prune(element: minidom.Element, keep_gps: bool) -> None:
    def stale(node: Any) -> bool:
        space, local = node.namespaceURI, node.localName or ""
        return (
            space in STALE_NAMESPACES or (space, local) in STALE_NAMES or (not keep_gps and bool(PLACE.search(local)))
        )

    for attribute in list(element.attributes.values()):
        if stale(attribute):
            element.removeAttributeNode(attribute)
    for child in list(element.childNodes):
        if child.nodeType != child.ELEMENT_NODE:
            continue
        if stale(child):
            element.removeChild(child)
        else:
            _prune(child, keep_gps)
