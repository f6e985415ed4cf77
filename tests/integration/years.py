"""A fleet that lives for years, and what the policy says of it: the play behind test_years.py.

The server's clock goes from day to day; devices ask, sleep, renew in time or late, come with what was replaced, are revoked, join, and are moved
under the customer's next root.  Beside each stands what the policy makes of it, worked out here from dates alone.  Nothing of the server's is asked
for that: what it says is held against it, each time a device comes."""
import concurrent.futures
import datetime
import heapq
import itertools
import json
import os
import random
import subprocess
import threading
import time

from cryptography import x509

from client import Device, Fleet, Gateway, Registration, new_key
from conftest import MUSTER, soon
from enrolment import DAY, PATH, YEAR
from est import Device as EstDevice, certificates, csr, post

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the play looks at the dates itself, by its own clock
LIFE, LATE, SUPERSEDED = YEAR, 90 * DAY, 30 * DAY  # of the account of devices that renew
KEY_LIFE = YEAR + 60 * DAY + DAY // 2                 # of provisioning keys
ROOT_LIFE, LEAF_LIFE = 6 * YEAR, 2 * YEAR           # of the customer's own CA
MARK = 5 * YEAR                                     # sizes are looked at so often
BEHAVIOURS = ("steady", "steady", "steady", "steady", "sleeps", "sleeps", "oversleeps", "revoked", "copied", "forgetful")


def end_of(cert): return int(cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp())
def begin_of(cert): return int(cert.not_valid_before.replace(tzinfo=datetime.timezone.utc).timestamp())
def seconds(text): return int(datetime.datetime.fromisoformat(text).timestamp())


class Client(Gateway):
    """A device's connection: the gateway's certificate has to be good on that day."""

    def __init__(self, play, identity):
        super().__init__(play.s.port, play.s.dir / "server-ca.pem", identity)
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
        self.counts = dict.fromkeys(("asked", "renewed", "renewed late", "refused", "replaced ones refused", "shut out", "re-admitted", "roots rotated", "roots retired", "forecasts", "ends foretold", "days"), 0)
        self.sizes = []
        self.anchors = [x509.load_pem_x509_certificate(b"-----BEGIN" + pem) for pem in (server.dir / "server-ca.pem").read_bytes().split(b"-----BEGIN")[1:]]
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
            self.at(joins, self.join, One(self, f"{kind}-{i}", kind, behaviour))
        for year in range(1, years + 1):
            self.at(self.begin + year * YEAR - 40 * DAY, self.new_key, "cars")
            self.at(self.begin + year * YEAR - 40 * DAY, self.new_key, "stock")
        for year in range(ROOT_LIFE // YEAR - 1, years, ROOT_LIFE // YEAR - 1):
            self.at(self.begin + year * YEAR, self.new_root)
        for year in (4, 9):
            self.at(self.begin + year * YEAR, self.rotate)
            self.at(self.begin + year * YEAR + LIFE + LATE + 30 * DAY, self.retire)
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
                    if what not in (self.comes, self.eve, self.join):
                        what(*args)
                if any(what == self.eve for what, _ in today):
                    self.forecast()
                self.go(self.now + DAY // 2)
                list(pool.map(lambda act: act[0](*act[1]), [act for act in today if act[0] in (self.comes, self.join)]))

    def look_at_server(self, der):
        """The certificate that the gateway shows is good today; how many there were."""
        cert = self.server_certificates.get(der)
        if not cert:
            cert = self.server_certificates[der] = x509.load_der_x509_certificate(der)
        for one in (cert, *[a for a in self.anchors if a.subject == cert.issuer]):
            assert begin_of(one) <= self.now < end_of(one), ("the gateway's certificate", one.not_valid_before, one.not_valid_after, self.day())

    def day(self): return f"day {(self.now - self.begin) // DAY}"

    # --- operators -------------------------------------------------------------------------------------------------------------------------

    def cli(self, *args):
        """A command of `muster`, whose clock is the server's.  What was under way between control and the vault when the day began took all that time,
        by control's clock: the vault does not answer for a moment."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
        end = time.monotonic() + 15
        while True:
            done = subprocess.run([MUSTER, "--data", self.s.dir, *map(str, args), "--json"], capture_output=True, text=True, check=False, timeout=120, env={**env, **self.s.clock.env})
            if "(vault_unavailable)" not in done.stderr or time.monotonic() > end:
                break
            time.sleep(0.1)
        assert done.returncode == 0, (args, done.stderr, self.day())
        return json.loads(done.stdout) if done.stdout.strip() else None

    def new_key(self, account):
        """A provisioning key for a year and a little; the one before ends, and nobody comes in with it from then on."""
        path = self.s.dir.parent / f"{account}-{len(self.keys[account])}.zip"
        made = self.cli("key", "create", "--account", account, "-o", path, "--expires", f"{KEY_LIFE}s")
        self.keys[account].append(Registration(path))
        self.key_ends[made["id"]] = self.now + KEY_LIFE
        self.at(self.now + KEY_LIFE - DAY, self.eve, None, 0)
        if len(self.keys[account]) > 2:
            answer = Client(self, self.keys[account][-3]).enrol(f"late-{len(self.keys[account])}")
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
        answer = Client(self, self.keys["stock"][-1]).enrol("last")
        assert answer.status == 200, answer
        self.issuers = {one.identity.cert.issuer.rfc4514_string() for one in self.fleet if one.account == "stock"}, Device(answer.body).cert.issuer.rfc4514_string()
        for account in ("cars", "stock", "trucks"):
            assert self.cli("audit", "verify", "--account", account)["ok"] is True, account

    # --- devices ---------------------------------------------------------------------------------------------------------------------------

    def ask(self, one, identity=None):
        answer = Client(self, identity or one.identity).get(PATH)
        self.count("asked")
        return None if answer.status == 404 else answer.code

    def has(self, one, identity, root=None):
        """A certificate that it uses from now on."""
        one.identity, one.root = identity, root
        one.issued.append(end_of(identity.cert))
        self.at(one.end - DAY, self.eve, one, one.end)
        assert self.ask(one) is None, (one.name, self.day())

    def join(self, one):
        if one.account == "trucks":
            self.signed(one, new_key())
        elif one.account == "stock":
            answer = Client(self, self.keys["stock"][-1]).enrol(one.name)
            assert answer.status == 200, (answer, self.day())
            self.has(one, Device(answer.body))
        else:
            self.enrols(one)
        self.fleet.append(one)
        if one.behaviour == "revoked":
            self.at(self.now + one.chance.randrange(30, 1500) * DAY, self.revoke, one)
        self.next(one)

    def enrols(self, one):
        own = new_key()
        answer = post(Client(self, self.keys["cars"][-1]), "simpleenroll", csr(own, one.name))
        assert answer.status == 200, (one.name, answer, self.day())
        self.has(one, EstDevice(own, certificates(answer)[0]))

    def signed(self, one, key):
        """The customer's CA gives it its next one."""
        days = (self.now - self.begin) / DAY
        self.has(one, self.uploaded.device(one.name, key=key, days=(days - 1, days + LEAF_LIFE / DAY)), self.uploaded)

    def eve(self, one, end): """A day before that end, which is the device's, or a provisioning key's: see forecast()."""

    def stands(self, one, end): return not one or (not one.out and one.end == end)

    def next(self, one):
        """When it comes again."""
        days = one.chance.randrange(120, 240) if one.account == "stock" else one.chance.randrange(30, 110)
        if one.kept and one.chance.random() < 0.5:
            days = 5
        if one.behaviour == "sleeps" and one.chance.random() < 0.12:
            days = (one.end - self.now) // DAY + one.chance.randrange(2, LATE // DAY - 15)
        if one.behaviour == "oversleeps" and one.chance.random() < 0.1:
            days = (one.end - self.now + LATE) // DAY + one.chance.randrange(2, 300)
        self.fortnightly(self.now + days * DAY, self.comes, one)

    def comes(self, one):
        """It asks; what it hears is what the policy says; and it does what it has to do to stay in."""
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
        return post(Client(self, identity or one.identity), "simplereenroll", csr(own, one.name)), own

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
        if self.now < begin_of(one.identity.cert) + DAY + LIFE * 2 // 3 and self.now < one.end:
            return
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
