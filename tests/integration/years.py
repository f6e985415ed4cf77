"""A fleet that lives for years, and what the policy says of it: the play behind test_years.py.

The server's clock goes from day to day; devices ask, sleep, renew in time or late, come with what was replaced, are revoked, join, and are moved
under the customer's next root; some come half a day before and half a day behind the policy's ends.  They learn a new server CA, or do not, and
are cut off when the old one is retired.  Beside each stands what the policy makes of it, worked out here from dates alone.  Nothing of the server's is
asked for that: what it says is held against it, each time a device comes."""
import base64
import collections
import concurrent.futures
import datetime
import heapq
import itertools
import json
import os
import random
import ssl
import subprocess
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import test_ocsp
from client import Device, Fleet, Gateway, Registration, new_key
from conftest import MUSTER, soon
from enrolment import DAY, PATH, YEAR
from est import Device as EstDevice, certificates, csr, path as est_path, post

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the play looks at the dates itself, by its own clock
LIFE, LATE, SUPERSEDED = YEAR, 90 * DAY, 30 * DAY  # of the account of devices that renew
KEY_LIFE = YEAR + 60 * DAY + DAY // 2                 # of provisioning keys
ROOT_LIFE, LEAF_LIFE = 6 * YEAR, 2 * YEAR           # of the customer's own CA
MARK = 5 * YEAR                                     # sizes are looked at so often
SEEN = 90 * DAY                                     # who was seen so recently is waited for before a CA is retired
FAR = 400                                           # days that a forecast looks ahead once a year
BEHAVIOURS = ("steady", "steady", "steady", "steady", "sleeps", "sleeps", "oversleeps", "revoked", "copied", "forgetful")


def end_of(cert): return int(cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp())
def begin_of(cert): return int(cert.not_valid_before.replace(tzinfo=datetime.timezone.utc).timestamp())
def seconds(text): return int(datetime.datetime.fromisoformat(text).timestamp())


class Client(Gateway):
    """A device's connection: the gateway's certificate has to be good on that day, for who trusts these server CAs."""

    def __init__(self, play, identity, trusts):
        super().__init__(play.s.port, play.anchor_file(trusts), identity)
        self.play = play
        self.context.verify_flags |= NO_CHECK_TIME

    def connect(self, session=None):
        c = super().connect(session)
        self.play.look_at_server(c.getpeercert(True))
        return c


class One:
    """A simulated device: what it has, and what the policy makes of it."""

    def __init__(self, play, name, account, behaviour):
        self.play, self.name, self.account, self.behaviour = play, name, account, behaviour
        self.chance = random.Random(f"{play.seed} {name}")
        self.identity = self.kept = None  # kept: what a copy of its disk has
        self.replaced = 0                 # when `kept` was replaced
        self.issued = []                  # the ends of all its certificates
        self.out = None                   # the code with which the policy shuts it out; None: it may come in
        self.root = None                  # of an uploaded one
        self.trusts = frozenset()         # the server CAs that it has
        self.given = 0                    # the newest one that the server can know that it has
        self.deaf = False                 # it never looks for one
        self.seen = 0                     # when it was let in last
        self.realigns = False             # it renews once more, at noon as the others do

    @property
    def end(self):
        """When it stops by time alone."""
        return min(end_of(self.identity.cert), end_of(self.root.cert) if self.root else 1 << 62)

    def verdict(self):
        """What the policy says of it now."""
        return "certificate_expired" if self.play.now >= self.end else self.out

    def late(self): return self.play.now - self.end


class Play:
    def __init__(self, server, devices, years, seed, say=lambda text: None):
        self.s, self.seed, self.say = server, seed, say
        self.begin = self.now = int(time.time())
        self.last = self.begin + years * YEAR + 60 * DAY  # an issuing CA that was never rotated replaces itself after 15
        self.today, self.control = -1, None
        self.chance = random.Random(seed)
        self.queue, self.order, self.lock = [], itertools.count(), threading.Lock()
        self.fleet, self.server_certificates, self.foretold = [], {}, set()
        self.counts = dict.fromkeys(("asked", "renewed", "renewed late", "refused", "replaced ones refused", "shut out", "re-admitted", "roots rotated", "roots retired", "forecasts", "ends foretold", "days",
                                     "at an edge in", "at an edge out", "server CAs learned", "server CAs rotated", "server CAs retired", "refused the gateway", "answers asked for"), 0)
        self.sizes = []
        self.server_cas, self.in_use = {}, frozenset()  # by their numbers
        self.look_at_server_cas()
        self.go(self.begin)
        server.account("cars", "test", "shared", "--device-life", LIFE, "--late-renewal", LATE, "--superseded-renewal", SUPERSEDED, "--reprovision", "ask")
        server.account("stock", "test", "shared")
        server.account("trucks", "test", "device")
        self.keys, self.key_ends = {"cars": [], "stock": []}, {}
        for account in self.keys:
            self.new_key(account)
        self.new_root()
        cars = itertools.cycle(BEHAVIOURS)
        for i in range(devices):
            kind = "stock" if i % 20 == 7 else "trucks" if i % 5 == 3 else "cars"
            joins = self.begin if i % 10 else self.begin + self.chance.randrange(1, years * 365) * DAY
            behaviour = next(cars) if kind == "cars" else "stays" if i % 15 == 3 else "steady"
            one = One(self, f"{kind}-{i}", kind, behaviour)
            one.deaf = kind == "stock" or i % 10 == 8 or kind == "cars" and i % 4 == 1
            self.at(joins, self.join, one)
        for year in range(1, years + 1):
            self.at(self.begin + year * YEAR - 40 * DAY, self.new_key, "cars")
            self.at(self.begin + year * YEAR - 40 * DAY, self.new_key, "stock")
        for year in range(ROOT_LIFE // YEAR - 1, years, ROOT_LIFE // YEAR - 1):
            self.at(self.begin + year * YEAR, self.new_root)
        for year in (4, 9):
            self.at(self.begin + year * YEAR, self.rotate)
            self.at(self.begin + year * YEAR + LIFE + LATE + 30 * DAY, self.retire)
        for year in (3, 11):
            self.at(self.begin + year * YEAR + 17 * DAY, self.rotate_server_ca)
        self.at(self.begin + 5 * YEAR, self.may_not_retire_server_ca)
        self.at(self.begin + 6 * YEAR, self.retire_server_ca)
        for year in (1, 6):
            self.edges(self.begin + year * YEAR + 28 * DAY)
        for year in range(years):
            self.at(self.begin + year * YEAR + 2 * DAY, self.forecast_far)
            self.at(self.begin + year * YEAR + 200 * DAY, self.asks_for_answers)
        self.at(self.begin + 7 * YEAR + 3 * DAY, self.restart)
        for mark in range(MARK, years * YEAR + 1, MARK):
            self.at(self.begin + mark, self.measure)
        self.at(self.last - DAY, self.finish)

    # --- time ------------------------------------------------------------------------------------------------------------------------------

    def at(self, when, what, *args):
        """On the first day that begins then or later; never today any more."""
        heapq.heappush(self.queue, (max(-(-(when - self.begin) // DAY), self.today + 1), next(self.order), what, args))

    def fortnightly(self, when, what, *args):
        """Likewise, on a day on which others come too."""
        self.at(self.begin - (self.begin - when) // (14 * DAY) * 14 * DAY, what, *args)

    def client(self, identity, trusts=None):
        """Who shows that; a context of TLS is dear, and made once."""
        known = vars(identity).setdefault("clients", {}) if identity else {}
        trusts = trusts or self.in_use
        if trusts not in known:
            known[trusts] = Client(self, identity, trusts)
        return known[trusts]

    def count(self, what, n=1):
        with self.lock:
            self.counts[what] += n

    def go(self, to):
        """The server's calendar to a time, and control's timers with it, so that what it does every hour is due."""
        self.now = to
        ahead = to - int(time.time())
        self.control = self.control or self.s.child("control")
        self.s.clock.set(ahead, ahead, self.control)
        if getattr(self.s, "admin_ca", None) is None:
            self.s.document()
        self.s.admin_ca.verify_flags |= NO_CHECK_TIME
        assert self.s.request("GET", "/readyz").status in (200, 503)  # a timer is looked at when something else happens

    def run(self):
        """Day by day; on each what operators do, one after the other, and at noon what devices do, some at a time.  So their certificates end at noon."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            while self.queue and self.queue[0][0] * DAY + self.begin <= self.last:
                day, today = self.queue[0][0], []
                self.today = day
                while self.queue and self.queue[0][0] == day:
                    today.append(heapq.heappop(self.queue)[2:])
                today = [act for act in today if act[0] != self.eve or self.stands(*act[1])]
                if not today:
                    continue
                self.go(self.begin + day * DAY)
                self.count("days")
                for what, args in today:
                    if what not in (*self.at_noon, self.eve):
                        what(*args)
                if any(what == self.eve for what, _ in today):
                    self.forecast()
                self.go(self.now + DAY // 2)
                list(pool.map(lambda act: act[0](*act[1]), [act for act in today if act[0] in self.at_noon]))

    def look_at_server(self, der):
        """The certificate that the gateway shows is good today; how many there were."""
        cert = self.server_certificates.get(der)
        if not cert:
            cert = self.server_certificates[der] = x509.load_der_x509_certificate(der)
        for one in (cert, *self.server_cas.values()):
            assert begin_of(one) <= self.now < end_of(one), ("the gateway's certificate", one.not_valid_before, one.not_valid_after, self.day())

    def day(self): return f"day {(self.now - self.begin) // DAY}"

    # --- operators -------------------------------------------------------------------------------------------------------------------------

    def cli(self, *args):
        """A command of `muster`, whose clock is the server's.  What was under way between control and the vault when the day began took all that time,
        by control's clock: the vault does not answer for a moment, and operators' own listener may show its certificate of before for as long."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
        end = time.monotonic() + 15
        while True:
            done = subprocess.run([MUSTER, "--data", self.s.dir, *map(str, args), "--json"], capture_output=True, text=True, check=False, timeout=120, env={**env, **self.s.clock.env})
            if not any(why in done.stderr for why in ("(vault_unavailable)", "certificate has expired")) or time.monotonic() > end:
                break
            time.sleep(0.1)
            self.s.request("GET", "/readyz")  # which has control look at its timers
        assert done.returncode == 0, (args, done.stderr, self.day())
        return json.loads(done.stdout) if done.stdout.strip() else None

    def api(self, method, path, body):
        """A request of the operators' API, where a refusal is what is asked for."""
        answer = self.s.api(method, path, body)
        assert answer.code != "vault_unavailable", (answer, self.day())
        return answer

    def new_key(self, account):
        """A provisioning key for a year and a little; the one before ends, and nobody comes in with it from then on."""
        path = self.s.dir.parent / f"{account}-{len(self.keys[account])}.zip"
        made = self.cli("key", "create", "--account", account, "-o", path, "--expires", f"{KEY_LIFE}s")
        self.keys[account].append(Registration(path))
        self.key_ends[made["id"]] = self.now + KEY_LIFE
        self.at(self.now + KEY_LIFE - DAY, self.eve, None, 0)
        if account == "stock" and len(self.keys[account]) % 4 == 1:
            for half, admits in ((-1, True), (1, False)):
                self.at(self.now + KEY_LIFE + half * DAY // 2, self.edge_of_key, self.keys[account][-1], admits)
        if len(self.keys[account]) > 2:
            answer = self.client(self.keys[account][-3]).enrol(f"late-{len(self.keys[account])}")
            assert (answer.status, answer.code) == (403, "provisioning_key_expired"), (answer, self.day())

    def new_root(self):
        """The customer's next root, while the one before is good: devices move as they are given their next certificate."""
        days = (self.now - self.begin) / DAY
        fleet = Fleet(f"Root of {self.day()}", days=(days - 1, days + ROOT_LIFE / DAY + 0.5))
        path = self.s.dir.parent / f"root-{days}.pem"
        path.write_bytes(fleet.root_pem())
        shown = self.cli("root", "upload", path, "--account", "trucks")
        path.write_bytes(self.proof(fleet, shown["challenge"], days))
        self.cli("root", "prove", shown["id"], path)
        self.uploaded = fleet

    @staticmethod
    def proof(fleet, challenge, days):
        """A certificate of today for the challenge."""
        return fleet.device(challenge, days=(days - 1, days + 1)).cert.public_bytes(x509.base.serialization.Encoding.PEM)

    def own_roots(self): return {r["state"]: r for r in self.cli("root", "list", "--account", "cars") if r["origin"] == "muster"}

    def rotate(self):
        self.cli("root", "rotate", self.own_roots()["active"]["id"])
        self.count("roots rotated")

    def retire(self):
        """Nobody whom the policy lets renew depends on it any more: the last certificate under it has ended, and the time to be late is over."""
        self.cli("root", "retire", self.own_roots()["known-only"]["id"], "--days", LATE // DAY)
        self.count("roots retired")

    def restart(self):
        """Of the server, in the middle of all that."""
        self.s.stop()
        self.s.start(env=self.s.clock.env)
        self.control = None
        self.go(self.now)

    def revoke(self, one):
        if not one.out:
            self.cli("device", "revoke", one.name, "--account", one.account)
            one.out = "device_revoked"
            soon(True, self.is_listed, 60)

    def is_listed(self):
        """The lists hold every certificate of a revoked device that has not ended; or what they hold instead."""
        least, entries, most = self.listed(), self.crl()["entries"], self.listed(30 * DAY)
        return least <= entries <= most or (least, entries, most)

    def listed(self, ago=0):
        """Certificates of revoked devices, those that were replaced too, that have not ended, or not so long ago: they stay on the list until one was
        made after their end (RFC 5280, 3.3)."""
        return sum(end > self.now - ago for o in self.fleet if o.account == "cars" and o.out == "device_revoked" for end in o.issued)
    def crl(self):
        """What the lists of all its issuing CAs hold together."""
        lists = [c for c in self.cli("crl", "list", "--account", "cars") if c["kind"] == "issuing-ca"]
        return {what: sum(c[what] for c in lists) for what in ("entries", "bytes")}

    def release(self, one):
        """The policy gives one up that came too late; an operator lets it come once more."""
        self.cli("device", "release", one.name, "--account", one.account, "--for-reprovision")
        one.released = True

    # --- the server CA -----------------------------------------------------------------------------------------------------------------------

    def look_at_server_cas(self):
        """Which there are, as every image is made with them."""
        pem = (self.s.dir / "server-ca.pem").read_bytes()
        certs = [x509.load_pem_x509_certificate(b"-----BEGIN" + one) for one in pem.split(b"-----BEGIN")[1:]]
        known = {c.fingerprint(hashes.SHA256()): n for n, c in self.server_cas.items()}
        for cert in reversed(certs):  # the current one stands first
            self.server_cas.setdefault(known.get(cert.fingerprint(hashes.SHA256()), len(self.server_cas) + 1), cert)
        prints = {c.fingerprint(hashes.SHA256()) for c in certs}
        self.in_use = frozenset(n for n, c in self.server_cas.items() if c.fingerprint(hashes.SHA256()) in prints)

    def anchor_file(self, numbers):
        path = self.s.dir.parent / f"anchors-{'-'.join(map(str, sorted(numbers)))}.pem"
        if not path.exists():
            part = path.with_suffix(f".{threading.get_ident()}")
            part.write_bytes(b"".join(self.server_cas[n].public_bytes(Encoding.PEM) for n in numbers))
            part.rename(path)
        return path

    def rotate_server_ca(self):
        self.cli("server-ca", "rotate")
        self.look_at_server_cas()
        self.count("server CAs rotated")

    def depend_on(self, number):
        """(who can fetch a newer one and was seen lately, who sleeps and may come again, who cannot renew) of those that are not known to have one."""
        learn = asleep = stuck = 0
        for one in self.fleet:
            if one.out == "device_revoked" or one.given > number:
                continue
            if one.account != "cars":
                stuck += 1
            elif one.seen >= self.now - SEEN:
                learn += 1
            elif max(one.issued) + LATE > self.now:
                asleep += 1
        return learn, asleep, stuck

    def may_not_retire_server_ca(self):
        """Devices that could fetch the new one, and do not, are waited for.  Whoever makes their software hears of it."""
        learn, _, _ = self.depend_on(1)
        answer = self.api("POST", "/api/v1/server-cas/1/retire", {"days": SEEN // DAY, "confirm": learn})
        assert learn and (answer.status, answer.code, answer.json["count"]) == (409, "server_ca_in_use", learn), (answer, learn, self.day())
        for one in self.fleet:
            one.deaf = one.deaf and one.account != "cars"

    def retire_server_ca(self):
        """All others are given up, by their number: they refuse the gateway until they are provisioned again."""
        learn, asleep, stuck = self.depend_on(1)
        for confirm in (None, asleep + stuck + 1, asleep + stuck - 1):
            answer = self.api("POST", "/api/v1/server-cas/1/retire", {"days": SEEN // DAY, **({"confirm": confirm} if confirm is not None else {})})
            assert (learn, answer.status, answer.code, answer.json["count"]) == (0, 409, "confirmation_required", asleep + stuck), (answer, learn, asleep, stuck, self.day())
        self.cli("server-ca", "retire", 1, "--days", SEEN // DAY, "--yes")
        soon(True, lambda: self.look_at_server_cas() or (1 not in self.in_use and self.is_refused_by({1})), 60)
        self.s.admin_ca = ssl.create_default_context(cafile=str(self.s.dir / "server-ca.pem"))
        self.go(self.now)
        self.count("server CAs retired")

    def learns(self, one):
        """A device that comes in looks for a newer server CA until it has it; the gateway hears of that."""
        newest = max(self.in_use)
        if one.deaf or one.out or max(one.given, 1) >= newest or self.now >= one.end:
            return
        certs = certificates(self.client(one.identity, one.trusts).get(est_path("cacerts")))
        anchors = {c.fingerprint(hashes.SHA256()) for c in certs if c.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
                   == c.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest} if len(certs) > 1 else {certs[0].fingerprint(hashes.SHA256())}
        assert anchors == {self.server_cas[n].fingerprint(hashes.SHA256()) for n in self.in_use}, (one.name, len(certs), self.day())
        one.trusts, one.given = self.in_use, newest
        self.count("server CAs learned")

    def is_refused_by(self, trusts, identity=None):
        """Whether who has these server CAs alone refuses the gateway."""
        try:
            self.client(identity, frozenset(trusts)).connect().close()
            return False
        except ssl.SSLCertVerificationError:
            return True

    def is_cut_off(self, one):
        """Whoever has no server CA that is in use refuses the gateway; somebody goes there, and then it has them."""
        if one.trusts & self.in_use:
            return
        assert self.is_refused_by(one.trusts, one.identity), (one.name, "takes the gateway by a server CA that was retired", self.day())
        self.count("refused the gateway")
        one.trusts = self.in_use
        if one.account == "stock":
            self.cli("device", "release", one.name, "--account", one.account, "--for-reprovision")
            self.enrols_as_stock(one, self.keys["stock"][-1])

    # --- half a day before, and half a day behind ------------------------------------------------------------------------------------------------

    def edges(self, day):
        """Devices of fixed fate, which come at the very ends of what the policy gives them; operators' acts are at midnight, so that is half a day off."""
        year = (day - self.begin) // YEAR
        for fate in ("late", "replaced", "root"):
            for admits in (True, False):
                account = "trucks" if fate == "root" else "cars"
                one = One(self, f"{fate}-{'in' if admits else 'out'}-{year}", account, "edge")
                one.fate, one.admits = fate, admits
                self.at(day if fate != "root" else self.begin + (ROOT_LIFE - YEAR) * (1 + year // 5) - 100 * DAY, self.join, one)

    def fated(self, one):
        """What becomes of one that has joined at noon."""
        half = -DAY // 2 if one.admits else DAY // 2
        if one.fate == "replaced":
            self.at(self.now + 98 * DAY, self.replaces, one)
        elif one.fate == "late":
            self.at(self.now + LIFE + LATE + half, self.edge_of_lateness, one)
        else:
            day = (end_of(one.root.cert) - self.begin) // DAY + (0 if one.admits else 1)
            self.at(self.begin + day * DAY, self.edge_of_root, one)

    def replaces(self, one):
        """It renews, and keeps what it had."""
        answer, own = self.renews(one)
        assert answer.status == 200, (one.name, answer, self.day())
        one.kept, one.replaced = one.identity, self.now
        self.count("renewed")
        self.has(one, EstDevice(own, certificates(answer)[0]))
        self.at(self.now + SUPERSEDED + (-DAY // 2 if one.admits else DAY // 2), self.edge_of_superseded, one)

    def edge(self, one, identity, code):
        """It renews with that, whose end has come, or does not."""
        said = self.ask(one, identity)
        assert said == code, (one.name, said, self.day())
        answer, own = self.renews(one, identity)
        self.count("at an edge in" if one.admits else "at an edge out")
        if one.admits:
            assert answer.status == 200, (one.name, answer, self.day())
            self.has(one, EstDevice(own, certificates(answer)[0]))
            one.realigns = True
        else:
            assert (answer.status, answer.code) == (403, code), (one.name, answer, self.day())
        one.behaviour = "steady"

    def edge_of_lateness(self, one):
        self.edge(one, one.identity, "certificate_expired")
        if one.admits:
            self.count("renewed late")
            self.at(self.now + DAY, self.comes, one)
        else:
            one.out = "certificate_expired"

    def edge_of_superseded(self, one):
        kept, one.kept = one.kept, None
        self.edge(one, kept, "certificate_superseded")
        if one.admits:
            self.count("renewed")
        self.at(self.now + DAY, self.comes, one)

    def edge_of_root(self, one):
        """Its own certificate lives on."""
        assert end_of(one.identity.cert) > self.now + 100 * DAY and self.ask(one) == (None if one.admits else "certificate_expired"), (one.name, self.day())
        self.count("at an edge in" if one.admits else "at an edge out")

    def edge_of_key(self, key, admits):
        name = f"key-{'in' if admits else 'out'}-{(self.now - self.begin) // DAY}"
        if admits:
            one = One(self, name, "stock", "edge")
            one.deaf = True
            self.enrols_as_stock(one, key)
            with self.lock:
                self.fleet.append(one)
        else:
            answer = self.client(key).enrol(name)
            assert (answer.status, answer.code) == (403, "provisioning_key_expired"), (answer, self.day())
        self.count("at an edge in" if admits else "at an edge out")

    # --- what is said ahead ----------------------------------------------------------------------------------------------------------------------

    def forecast_far(self):
        """Once a year more than a year ahead: on each day so many, of each kind, as the dates say."""
        shown = self.cli("forecast", "--days", FAR)
        first_day = seconds(shown["from"]) - seconds(shown["from"]) % DAY
        said, keys = collections.Counter(), {}
        for cause in shown["causes"]:
            if cause["cause"] == "provisioning-key":
                keys[cause["object"]] = seconds(cause["first"])
                continue
            assert cause["cause"] in ("device-certificate", "fleet-root") and cause["code"] == "certificate_expired", (cause, self.day())
            for day in cause["days"]:
                for what in ("stops", "renews"):
                    said[cause["cause"], cause["account"], what, (seconds(day["day"]) - first_day) // DAY] += day[what]
        ends = [o for o in self.fleet if not o.out and self.now < o.end <= self.now + FAR * DAY]
        expected = collections.Counter(("fleet-root" if o.root and end_of(o.root.cert) < end_of(o.identity.cert) else "device-certificate", o.account, "renews" if o.account == "cars" else "stops",
                                        (o.end - first_day) // DAY) for o in ends)
        assert +said == expected and shown["complete"], (self.day(), +said - expected, expected - said)
        late = [o.end for o in self.fleet if o.account == "cars" and o.out != "device_revoked" and self.now - LATE < o.end <= self.now]
        assert (shown["renewable"], shown["renewable_until"] and seconds(shown["renewable_until"])) == (len(late), min(late) + LATE if late else None), (self.day(), shown, late)
        expected = {k: end for k, end in self.key_ends.items() if self.now < end <= self.now + FAR * DAY}
        assert keys.keys() == expected.keys() and all(abs(keys[k] - expected[k]) < 60 for k in keys), (self.day(), keys, expected)
        self.count("forecasts")

    # --- what others ask for ---------------------------------------------------------------------------------------------------------------------

    def asks_for_answers(self):
        """The time, for who trusts the oldest server CA alone, and OCSP's answers on a few."""
        nonce = f"{self.chance.getrandbits(128):032x}"
        shown = self.client(None).get(f"/time?nonce={nonce}").json
        signer = x509.load_der_x509_certificate(base64.b64decode(shown["certificate"]))
        self.server_cas[min(self.in_use)].public_key().verify(signer.signature, signer.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        signer.public_key().verify(base64.b64decode(shown["signature"]), f"Muster time 1\n{shown['time']}\n{nonce}\n".encode(), ec.ECDSA(hashes.SHA256()))
        assert begin_of(signer) <= self.now < end_of(signer) and abs(seconds(shown["time"]) - self.now) < 3600, (shown, self.day())
        bundle = self.s.dir.parent / "bundle.pem"
        self.cli("root", "bundle", "--account", "cars", "-o", bundle)
        cas = [x509.load_pem_x509_certificate(b"-----BEGIN" + one) for one in bundle.read_bytes().split(b"-----BEGIN")[1:]]
        of_key = {c.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest: c for c in cas}
        cars = [o for o in self.fleet if o.account == "cars" and end_of(o.identity.cert) > self.now]
        for one in [o for o in cars if o.out == "device_revoked"][:2] + [o for o in cars if not o.out][:2]:
            cert = one.identity.cert
            ca = of_key[cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier]
            answer = test_ocsp.verify(test_ocsp.post(self.s, "cars", test_ocsp.question(ca, cert.serial_number)), ca)
            assert answer.certificate_status == (test_ocsp.REVOKED if one.out else test_ocsp.GOOD), (one.name, answer.certificate_status, self.day())
            (responder,) = answer.certificates
            this, following = (int(t.replace(tzinfo=datetime.timezone.utc).timestamp()) for t in (answer.this_update, answer.next_update))
            assert begin_of(responder) <= self.now < end_of(responder) and this <= self.now + 60 < following, (responder, answer.this_update, answer.next_update, self.day())
            self.count("answers asked for")

    def forecast(self):
        """Whoever stops within a day from now is said, by name, with the time; and nobody else."""
        shown = self.cli("forecast", "--days", 1)
        self.count("forecasts")
        said, n = {}, 0
        for cause in shown["causes"]:
            assert cause["cause"] in ("device-certificate", "fleet-root", "provisioning-key"), (cause, self.day())
            n += cause["stops"] + cause["renews"]
            said.update({(cause["account"], d["device_id"]): (seconds(d["at"]), cause["code"], d["renews"]) for d in cause["devices"]})
        ends = {(o.account, o.name): (o.end, "certificate_expired", o.account == "cars") for o in self.fleet if not o.out and self.now < o.end <= self.now + DAY}
        assert n == len(ends) and all(said[k] == ends[k] for k in said), (self.day(), said, ends)
        if len(ends) <= 20:
            assert said == ends, (self.day(), said, ends)
        keys = {c["object"]: seconds(c["first"]) for c in shown["causes"] if c["cause"] == "provisioning-key"}
        expected = {k: end for k, end in self.key_ends.items() if self.now < end <= self.now + DAY}
        assert keys.keys() == expected.keys() and all(abs(keys[k] - expected[k]) < 60 for k in keys), (self.day(), keys, expected)
        self.foretold |= {(k, end) for k, (end, *_) in ends.items()}
        self.count("ends foretold", len(ends))

    def measure(self):
        """What is kept."""
        def size(*globs): return sum(p.stat().st_size for g in globs for p in self.s.dir.glob(g) if p.is_file())
        crl = self.crl()
        issued = self.counts["renewed"] + self.counts["renewed late"] + self.counts["re-admitted"] + len(self.fleet)
        self.sizes.append({"years": round((self.now - self.begin) / YEAR), "registry": size("registry.db"), "control": size("control.db"), "logs": size("*.db-wal"), "vault": size("vault/*", "vault/*/*"),
                           "certificates": issued, "revoked_for_good": sum(o.out == "device_revoked" for o in self.fleet), "revoked_and_not_ended": (self.listed(), self.listed(30 * DAY)), "crl_entries": crl["entries"], "crl_bytes": crl["bytes"]})
        self.say(self.sizes[-1])

    def finish(self):
        """An issuing CA that nobody rotated has replaced itself, once what was left was less than a device certificate lives; and the logs are whole."""
        answer = self.client(self.keys["stock"][-1]).enrol("last")
        assert answer.status == 200, answer
        self.issuers = {one.identity.cert.issuer.rfc4514_string() for one in self.fleet if one.account == "stock"}, Device(answer.body).cert.issuer.rfc4514_string()
        for account in ("cars", "stock", "trucks"):
            assert self.cli("audit", "verify", "--account", account)["ok"] is True, account

    # --- devices ---------------------------------------------------------------------------------------------------------------------------

    @property
    def at_noon(self): return self.comes, self.join, self.replaces

    def ask(self, one, identity=None):
        answer = self.client(identity or one.identity, one.trusts).get(PATH)
        self.count("asked")
        if answer.status == 404:
            one.seen = self.now
        return None if answer.status == 404 else answer.code

    def has(self, one, identity, root=None):
        """A certificate that it uses from now on."""
        one.identity, one.root = identity, root
        one.issued.append(end_of(identity.cert))
        self.at(one.end - DAY, self.eve, one, one.end)
        assert self.ask(one) is None, (one.name, self.day())

    def join(self, one):
        one.trusts = self.in_use
        if one.account == "trucks":
            self.signed(one, new_key())
        elif one.account == "stock":
            self.enrols_as_stock(one, self.keys["stock"][-1])
        else:
            self.enrols(one)
        with self.lock:
            self.fleet.append(one)
        if one.behaviour == "revoked":
            self.at(self.now + one.chance.randrange(30, 1500) * DAY, self.revoke, one)
        self.next(one)

    def enrols(self, one):
        """By EST: what the device's image trusts, nobody is told."""
        own = new_key()
        answer = post(self.client(self.keys["cars"][-1], one.trusts), "simpleenroll", csr(own, one.name))
        assert answer.status == 200, (one.name, answer, self.day())
        one.given = 0
        self.has(one, EstDevice(own, certificates(answer)[0]))

    def enrols_as_stock(self, one, key):
        """As a stock client, which is given what it is to trust from now on."""
        answer = self.client(key).enrol(one.name)
        assert answer.status == 200, (one.name, answer, self.day())
        device = Device(answer.body)
        assert {c.fingerprint(hashes.SHA256()) for c in device.cas} == {self.server_cas[n].fingerprint(hashes.SHA256()) for n in self.in_use}, (one.name, self.day())
        one.trusts, one.given = self.in_use, max(self.in_use)
        self.has(one, device)

    def signed(self, one, key):
        """The customer's CA gives it its next one."""
        days = (self.now - self.begin) / DAY
        self.has(one, self.uploaded.device(one.name, key=key, days=(days - 1, days + LEAF_LIFE / DAY)), self.uploaded)

    def eve(self, one, end): """A day before that end, which is the device's, or a provisioning key's: see forecast()."""

    def stands(self, one, end): return not one or (not one.out and one.end == end)

    def next(self, one):
        """When it comes again."""
        self.learns(one)
        if one.behaviour == "edge":
            self.fated(one)
            return
        days = one.chance.randrange(*{"cars": (50, 110), "trucks": (90, 200), "stock": (120, 240)}[one.account])
        if one.kept and one.chance.random() < 0.5:
            days = 5
        if one.behaviour == "sleeps" and one.chance.random() < 0.12:
            days = (one.end - self.now) // DAY + one.chance.randrange(2, LATE // DAY - 15)
        if one.behaviour == "oversleeps" and one.chance.random() < 0.1:
            days = (one.end - self.now + LATE) // DAY + one.chance.randrange(2, 300)
        self.fortnightly(self.now + days * DAY, self.comes, one)

    def comes(self, one):
        """It asks; what it hears is what the policy says; and it does what it has to do to stay in."""
        self.is_cut_off(one)
        said, expected = self.ask(one), one.verdict()
        assert said == expected, (one.name, one.behaviour, said, expected, self.day())
        if said:
            self.count("refused")
        if said == "certificate_expired" and one.out != "device_revoked":
            assert ((one.account, one.name), one.end) in self.foretold, (one.name, "nobody said that it would stop", self.day())
        if one.account == "cars":
            self.keeps_itself_in(one)
        elif one.account == "trucks":
            if said or one.behaviour == "stays" and one.chance.random() < 0.2:
                one.behaviour = "stays"  # nobody brings it a new one: it stops
            elif self.now > begin_of(one.identity.cert) + DAY + LEAF_LIFE * 2 // 3 or end_of(one.root.cert) - self.now < 200 * DAY:
                self.signed(one, one.identity.key)
        if not (said and one.account == "trucks"):
            self.next(one)

    def renews(self, one, identity=None):
        """(the answer of simplereenroll, the key that it was asked for)"""
        own = new_key()
        return post(self.client(identity or one.identity, one.trusts), "simplereenroll", csr(own, one.name)), own

    def may_not_renew(self, one):
        """Whom the policy does not let renew: for its own reason, or because what it stands under was retired since."""
        answer, _ = self.renews(one)
        assert answer.status == 403 and answer.code in (one.out, *["root_retired"] * self.counts["roots retired"]), (one.name, answer, self.day())

    def keeps_itself_in(self, one):
        if one.out and not getattr(one, "released", False):
            self.may_not_renew(one)
            return
        if getattr(one, "released", False):
            one.released, one.out = False, None
            self.enrols(one)
            self.count("re-admitted")
            return
        if self.now >= one.end and one.late() > LATE:
            one.out = "certificate_expired"
            self.may_not_renew(one)
            self.count("shut out")
            if one.chance.random() < 0.5:
                self.at(self.now + 5 * DAY, self.release, one)
            return
        if one.kept and self.now > one.replaced:
            self.comes_with_what_was_replaced(one)
        if self.now < begin_of(one.identity.cert) + DAY + LIFE * 2 // 3 and self.now < one.end and not one.realigns:
            return
        one.realigns = False
        late = self.now >= one.end
        answer, own = self.renews(one)
        assert answer.status == 200, (one.name, answer, self.day())
        self.count("renewed late" if late else "renewed")
        if one.behaviour == "forgetful" and not late and one.chance.random() < 0.3:
            one.issued.append(end_of(certificates(answer)[0]))
            return  # the power went before it had written the new one down
        before = one.identity
        self.has(one, EstDevice(own, certificates(answer)[0]))
        if one.behaviour == "copied":
            one.kept, one.replaced = before, self.now
        assert self.ask(one, before) == ("certificate_expired" if late else "certificate_superseded"), (one.name, self.day())

    def comes_with_what_was_replaced(self, one):
        """A disk that went back to an older state: within the policy's days it may renew, and nothing else; later not even that."""
        kept, one.kept = one.kept, None
        if self.now >= end_of(kept.cert):
            return
        assert self.ask(one, kept) == "certificate_superseded", (one.name, self.day())
        self.count("replaced ones refused")
        answer, own = self.renews(one, kept)
        if self.now - one.replaced >= SUPERSEDED:
            assert (answer.status, answer.code) == (403, "certificate_superseded"), (one.name, answer, self.day())
            return
        assert answer.status == 200, (one.name, answer, self.day())
        self.has(one, EstDevice(own, certificates(answer)[0]))
