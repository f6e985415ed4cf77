"""Plays what musterd asked of its disk, as tests/faults/record_disk.c wrote it down, and leaves what a power cut would have left of it.

What was written and not synced is pending.  A cut keeps, loses or tears each pending operation by itself: files and directories owe each other
no order, only a sync does.  A torn write has reached the disk in some of the 512-byte sectors that it touches.  A file's mode is taken
as durable at once.  As tests/powercut/disk.h has it, for the real programs and the whole data directory."""
import mmap
import os
import pathlib
import random
import shutil
import struct

HEAD, ENTRY = 4096, struct.Struct("=IIQQqII")
CREATE, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, MODE, LINK, SYMLINK = range(1, 11)
SECTOR = 512
LOST, KEPT, LATE, FILES, MIXED, TORN = CUTS = ("lost", "kept", "late", "files", "mixed", "torn")


class Recorder:
    """The log while it is written."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.write_bytes(b"\0" * HEAD)

    def size(self):
        """How much has been recorded: what a promise made now rests on comes before."""
        with open(self.path, "rb") as f:
            return struct.unpack("=QQ", f.read(16))[1]

    def operations(self):
        """Those so far: a list of Operation."""
        with open(self.path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            n, at, found = struct.unpack_from("=QQ", m)[1], 0, []
            while at < n:
                kind, mode, inode, parent, offset, n_name, n_bytes = ENTRY.unpack_from(m, HEAD + at)
                at += ENTRY.size
                name = m[HEAD + at:HEAD + at + n_name].decode()
                data = m[HEAD + at + n_name:HEAD + at + n_name + n_bytes]
                at += n_name + n_bytes
                found.append(Operation(kind, mode, inode, parent, offset, name, data, at))
        return found


class Operation:
    def __init__(self, kind, mode, inode, parent, offset, name, data, end):
        self.kind, self.mode, self.inode, self.parent, self.offset, self.name, self.data, self.end = kind, mode, inode, parent, offset, name, data, end
        self.node = self.directory = None  # a number that no other file has, which an inode's is only while the file is there

    def is_content(self):
        return self.kind in (WRITE, TRUNCATE)


def inside(operations, directory):
    """Those that are about `directory`, an inode that is there, and what is in it; with their nodes."""
    nodes, kept, names = {directory: 0}, [], {}
    kinds = {0: MKDIR}
    for op in operations:
        if op.kind in (CREATE, MKDIR, SYMLINK) and op.parent in nodes:
            op.directory = nodes[op.parent]
            op.node = len(kinds)
            kinds[op.node] = op.kind
            nodes[op.inode] = op.node
            names[op.directory, op.name] = op.inode
        elif op.kind in (CREATE, MKDIR, SYMLINK):
            if op.inode != directory:
                nodes.pop(op.inode, None)  # the number is another file's now
            continue
        elif op.kind == LINK:
            if op.inode not in nodes or op.parent not in nodes:
                continue
            op.node, op.directory = nodes[op.inode], nodes[op.parent]
            names[op.directory, op.name] = op.inode
        elif op.kind in (RENAME, UNLINK):
            if (nodes.get(op.parent), op.name) not in names:
                continue
            op.directory = nodes[op.parent]
            op.inode = names.pop((op.directory, op.name))
            op.node = nodes[op.inode]
            if op.kind == RENAME:
                names[op.directory, op.data.decode()] = op.inode
        elif op.inode in nodes:
            op.node = nodes[op.inode]
        else:
            continue
        kept.append(op)
    return kept


class Disk:
    def __init__(self, operations):
        self.operations, self.at, self.pending = operations, 0, []
        self.content, self.modes, self.entries, self.folders, self.leads = {}, {0: 0o700}, {}, {0}, {}

    def play(self, until, skip=lambda op: False):
        """Up to operation `until`; skip(op): a sync that does not happen."""
        for op in self.operations[self.at:until]:
            if op.kind == SYNC:
                if not skip(op):
                    self.sync(op.node)
                continue
            if op.kind in (CREATE, MKDIR, MODE):
                self.modes[op.node] = op.mode
            if op.kind == MKDIR:
                self.folders.add(op.node)
            if op.kind == SYMLINK:
                self.leads[op.node] = op.data.decode()
            if op.kind != MODE:
                self.pending.append(op)
        self.at = max(self.at, until)
        return self

    def sync(self, node):
        left = []
        for op in self.pending:
            if op.is_content() and op.node == node:
                apply_content(self.content.setdefault(node, bytearray()), op)
            elif not op.is_content() and op.directory == node:
                apply_entry(self.entries, op)
            else:
                left.append(op)
        self.pending = left

    def cut(self, kind, seed, target):
        """Writes what the cut leaves into the folder `target`, which it makes anew."""
        entries, content = dict(self.entries), {}
        chance, sides = random.Random(seed), random.Random(seed)
        whose = {}
        late = chance.randrange(len(self.pending) + 1)
        for i, op in enumerate(self.pending):
            owner = op.node if op.is_content() else ("folder", op.directory)
            whose.setdefault(owner, sides.random() < 0.5)
            survives = {LOST: False, KEPT: True, LATE: i >= late, FILES: whose[owner], MIXED: chance.random() < 0.5, TORN: chance.random() < 0.75}[kind]
            torn = kind == TORN and op.kind == WRITE and chance.random() < 0.5
            if survives and op.is_content():
                apply_content(content.setdefault(op.node, bytearray(self.content.get(op.node, b""))), op, chance if torn else None)
            elif survives:
                apply_entry(entries, op)
        shutil.rmtree(target, ignore_errors=True)
        self.write(pathlib.Path(target), 0, entries, {**self.content, **content})

    def write(self, path, folder, entries, content):
        path.mkdir()
        for (parent, name), node in entries.items():
            if parent != folder:
                continue
            if node in self.leads:
                (path / name).symlink_to(self.leads[node])
            elif node in self.folders:
                self.write(path / name, node, entries, content)
            else:
                (path / name).write_bytes(content.get(node, b""))
                os.chmod(path / name, self.modes[node])
        os.chmod(path, self.modes[folder])


def apply_content(content, op, torn=None):
    if op.kind == TRUNCATE:
        del content[op.offset:]
        content.extend(bytes(op.offset - len(content)))
        return
    at, end = op.offset, op.offset + len(op.data)
    while at < end:
        to = min((at // SECTOR + 1) * SECTOR, end)
        if torn is None or torn.random() < 0.5:
            content.extend(bytes(max(0, to - len(content))))
            content[at:to] = op.data[at - op.offset:to - op.offset]
        at = to


def apply_entry(entries, op):
    entries.pop((op.directory, op.name), None)
    if op.kind in (CREATE, MKDIR, LINK, SYMLINK):
        entries[op.directory, op.name] = op.node
    elif op.kind == RENAME:
        entries[op.directory, op.data.decode()] = op.node
