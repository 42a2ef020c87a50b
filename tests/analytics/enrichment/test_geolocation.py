"""Places, from real files in MaxMind's format, with the layouts of GeoLite2 and DB-IP."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from maxminddb import InvalidDatabaseError
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from analytics.diagnostics.geoip import check_file
from analytics.enrichment.geolocation import Place, Places, place_said
from analytics.enrichment.watched_file import LOOKED_AT, WatchedFile

GEOLITE = {
    "country": {"iso_code": "US", "names": {"en": "United States"}},
    "subdivisions": [{"iso_code": "CA", "names": {"en": "California"}}],
    "city": {"names": {"de": "San José", "en": "San Jose"}},
}
DBIP = {
    "country": {"iso_code": "DE", "names": {"en": "Germany"}},
    "subdivisions": [{"names": {"en": "Berlin"}}],
    "city": {"names": {"en": "Berlin (Mitte)"}},
}


def write(path: Path, networks: Mapping[str, Any], kind: str = "GeoLite2-City") -> Path:
    writer = MMDBWriter(6, kind, ipv4_compatible=True)
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    part = path.with_suffix(".part")
    writer.to_db_file(str(part))
    part.replace(path)  # replaced as a whole, because a reader may have the old file in memory
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "city.mmdb",
        {
            "192.0.2.0/24": GEOLITE,
            "198.51.100.0/25": DBIP,
            "198.51.100.128/25": {"country": {"iso_code": "FR"}, "subdivisions": [{"names": {"en": "Atlantis"}}]},
            "203.0.113.0/25": {"country_code": "NL", "city": "Utrecht"},
            "203.0.113.128/25": {"continent": {"code": "EU"}},
            "2001:db8::/32": GEOLITE,
        },
    )


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", Place("US", "US-CA", "San Jose")),
        ("2001:db8::7", Place("US", "US-CA", "San Jose")),
        ("198.51.100.7", Place("DE", "DE-BE", "Berlin (Mitte)")),
        ("198.51.100.200", Place("FR")),
        ("203.0.113.7", Place("NL", None, "Utrecht")),
        ("203.0.113.200", None),
        ("10.0.0.1", None),
    ],
)
def test_an_address_is_found_in_either_layout(file: Path, address: str, place: Place | None):
    assert Places(str(file)).find(address) == place


def test_a_file_that_was_replaced_is_opened_again_and_a_broken_one_changes_nothing(file: Path):
    now = [0.0]
    places = Places(str(file))
    places._file._clock = lambda: now[0]
    assert places.find("192.0.2.7") == Place("US", "US-CA", "San Jose")
    write(file, {"192.0.2.0/24": DBIP})
    assert places.find("192.0.2.7") == Place("US", "US-CA", "San Jose")  # the file is not checked at every look-up
    now[0] += LOOKED_AT
    assert places.find("192.0.2.7") == Place("DE", "DE-BE", "Berlin (Mitte)")
    broken = file.with_suffix(".broken")
    broken.write_bytes(b"not a database")
    broken.replace(file)
    now[0] += LOOKED_AT
    assert places.find("192.0.2.7") == Place("DE", "DE-BE", "Berlin (Mitte)")


def test_without_a_file_no_place_is_found(tmp_path: Path):
    assert Places(str(tmp_path / "missing")).find("192.0.2.7") is None


def test_a_watched_file_is_read_once_and_again_when_it_changed(tmp_path: Path):
    now, path = [0.0], tmp_path / "list"
    watched = WatchedFile(path, lambda file: file.read_text(), clock=lambda: now[0])
    assert watched.get() is None
    for text in ("a", "bc"):
        path.write_text(text)
        now[0] += LOOKED_AT
        assert watched.get() == text
    path.unlink()
    now[0] += LOOKED_AT
    assert watched.get() == "bc"


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"country": "US", "region": "CA", "city": "San Jose"}, Place("US", "US-CA", "San Jose")),
        ({"country": "de", "region": "DE-BE"}, Place("DE", "DE-BE")),
        ({"country": "DE", "region": "US-CA"}, Place("DE")),
        ({"country": "DE", "region": "Berlin"}, Place("DE")),
        ({"country": "XX"}, None),
        ({"country": "T1"}, None),
        ({}, None),
    ],
)
def test_headers_of_a_cdn_are_used_only_if_they_are_codes(said: dict[str, str], place: Place | None):
    assert place_said(said) == place


def test_the_doctor_looks_at_the_file(file: Path, tmp_path: Path):
    assert check_file("").state == "ok"
    assert check_file(str(file)).state == "ok"
    assert check_file(str(tmp_path / "missing")).state == "problem"
    (tmp_path / "broken").write_bytes(b"x")
    assert check_file(str(tmp_path / "broken")).state == "problem"
    asn = write(tmp_path / "asn.mmdb", {"192.0.2.0/24": {"autonomous_system_number": 1}}, "GeoLite2-ASN")
    assert check_file(str(asn)).state == "warning"


def test_an_invalid_address_raises_an_error(file: Path):
    with pytest.raises((ValueError, InvalidDatabaseError)):
        Places(str(file)).find("nobody")
