"""A database of students survives being killed at any moment: the benchmark, with few kills."""

import pathlib
import re
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[1] / "benchmarks" / "kill_resume.py"


def test_no_student_is_lost_or_there_twice_after_ten_kills():
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills=10"], capture_output=True, text=True, timeout=600
    )

    assert ran.returncode == 0, ran.stderr
    found = re.search(
        r"10 kills in \d+ builds .* (\d+) trainings went on .* by finished students: (.*)",
        ran.stdout,
    )
    assert found is not None, ran.stdout
    by_students = dict(map(int, pair.split(": ")) for pair in found.group(2).split(", "))
    assert sum(by_students.values()) == 10
    assert any(0 < students < 11 for students in by_students)
    assert int(found.group(1)) > 0
