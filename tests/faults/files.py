"""Deliberate faults in files."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "a file written over the old one",
        "ebm/files.py",
        '    beside = f"{place}.{os.getpid()}-{secrets.token_hex(4)}.part"\n',
        '    os.path.exists(place) and os.remove(place)\n    beside = f"{place}.{os.getpid()}-{secrets.token_hex(4)}.part"\n',
        "tests/test_files.py -k full_disk",
    ),
    Fault(
        "one name for the files beside of all threads",
        "ebm/files.py",
        "{os.getpid()}-{secrets.token_hex(4)}.part",
        "{os.getpid()}.part",
        "tests/test_files.py -k beside_each_other",
    ),
    Fault(
        "a failed write leaves its file behind",
        "ebm/files.py",
        "            os.remove(beside)\n",
        "            pass\n",
        "tests/test_files.py -k leaves_the_old_file",
    ),
    Fault(
        "a file that takes its place before it is on the disk",
        "ebm/files.py",
        "            os.fsync(file.fileno())\n",
        "",
        "tests/test_files.py -k failure_at_the_end",
    ),
    Fault(
        "checksums that nobody compares",
        "ebm/files.py",
        "            damaged = parts.testzip()\n",
        "            damaged = None\n",
        "tests/test_files.py -k flipped_bits",
    ),
    Fault(
        "parts of other numbers of rows are put together",
        "ebm/solution.py",
        "        if sizes - {len(status)}:\n",
        "        if False:\n",
        "tests/test_files.py -k belong_together",
    ),
]
