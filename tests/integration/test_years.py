"""A fleet lives 15 years, with every certificate rotating: nobody whom the policy admits is refused, nobody whom it does not admit comes in, each end
was said the day before, and what is kept stays bounded.  Short form a few devices of each behaviour; MUSTER_LONG=yes a thousand."""
import pytest

from conftest import LONG
from clock import Clock
from test_ocsp import with_listener
from years import Play

YEARS = 15
DEVICES = 1000 if LONG else 24
KIB, MIB = 1024, 1 << 20


@pytest.fixture
def world(fresh):
    s = with_listener(lambda config: fresh(start=False, config=config), "limit_device = 0", "log_requests = off")
    s.clock = Clock(s.dir.parent / "clock")
    s.start(env=s.clock.env)
    return s


def test_fifteen_years(world):
    play = Play(world, DEVICES, YEARS, "fifteen years")
    play.run()
    print(play.counts, *play.sizes, f"{len(play.server_certificates)} certificates of the gateway", sep="\n")
    # All of it has happened.
    assert min(play.counts.values()) > 0 and (play.counts["roots rotated"], play.counts["roots retired"]) == (2, 2)
    assert (play.counts["server CAs rotated"], play.counts["server CAs retired"]) == (2, 1) and play.in_use == {2, 3}
    assert len(play.fleet) >= DEVICES and len(play.server_certificates) >= YEARS
    before, after = play.issuers
    assert len(before) == 1 and after not in before
    # What is kept grows with what was issued, which operators can list for good, and with nothing else.
    for one in play.sizes:
        assert one["registry"] < 512 * KIB + 5 * KIB * one["certificates"] and one["control"] < MIB and one["vault"] < 64 * KIB and one["logs"] < 64 * MIB, one
        assert one["revoked_and_not_ended"][0] <= one["crl_entries"] <= one["revoked_and_not_ended"][1], one
    first, *_, last = play.sizes
    assert last["vault"] < 2 * first["vault"], "a few CAs more"
