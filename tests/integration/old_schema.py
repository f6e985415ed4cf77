"""Takes a database of a server that is stopped back to what an earlier version would have left: its first migrations alone, and the same rows."""
import pathlib
import sqlite3

MIGRATIONS = pathlib.Path(__file__).parents[2] / "src/registry/migrations"
# Columns of earlier schemas that are gone: what would stand there.
GONE = {"device.issue_used": "1", "key_hour.id": "NULL"}


def scripts(kind):
    """The migrations of "registry" or "control", in order."""
    return sorted(p for p in MIGRATIONS.glob("*.sql") if p.name.startswith("control-") == (kind == "control"))


def take_back(path, schema):
    """Returns the number of the newest migration that it had."""
    path = pathlib.Path(path)
    older = sqlite3.connect(":memory:", isolation_level=None)
    now = sqlite3.connect(path, isolation_level=None)
    now.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for script in scripts(path.stem)[:schema]:
        older.executescript(script.read_text(encoding="utf-8"))
    older.execute(now.execute("SELECT sql FROM sqlite_master WHERE name = 'schema_version'").fetchone()[0])
    older.execute("PRAGMA foreign_keys = off")
    triggers = older.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:  # what they would count is copied
        older.execute(f"DROP TRIGGER {name}")
    tables = [t for (t,) in older.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    meta = {name for (name,) in older.execute("SELECT name FROM meta")}
    only = {"schema_version": f" WHERE number <= {schema}", "meta": f" WHERE name IN ({', '.join(map(repr, meta))})"}
    for table in tables:
        columns = [row[1] for row in older.execute(f"PRAGMA table_info({table})")]
        has = {row[1] for row in now.execute(f"PRAGMA table_info({table})")}
        values = [c if c in has else GONE[f"{table}.{c}"] for c in columns]
        rows = now.execute(f"SELECT {', '.join(values)} FROM {table}{only.get(table, '')}").fetchall()
        older.execute(f"DELETE FROM {table}")
        older.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)
    for _, sql in triggers:
        older.execute(sql)
    newest = now.execute("SELECT max(number) FROM schema_version").fetchone()[0]
    now.close()
    for name in (path.name, path.name + "-wal", path.name + "-shm"):
        (path.parent / name).unlink(missing_ok=True)
    disk = sqlite3.connect(path)
    older.backup(disk)
    disk.execute("PRAGMA journal_mode = wal")
    disk.close()
    if path.stem == "registry" and schema < 8:  # control knew of no seals then
        control = sqlite3.connect(path.with_name("control.db"), isolation_level=None)
        control.execute("UPDATE meta SET value = 0 WHERE name = 'sealed'")
        control.close()
    return newest
