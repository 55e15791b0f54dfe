"""Metrics on disk: whole JSON lines, and events that TensorBoard reads."""

import json
import struct

from dass_jax.workflow.training_log import event_writer, write_history


def scalars(folder):
    """Reads event files: records of a length, its checksum, a message and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_history_is_one_object_a_line(tmp_path):
    entries = [{"episode": 20, "per_task": [0.5, 0.25]}, {"episode": 40, "per_task": [1.0, 0.0]}]
    for count in (1, 2):
        write_history(tmp_path / "history.jsonl", entries[:count])
        lines = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == entries[:count]


def test_numbers_become_scalars(tmp_path):
    with event_writer(tmp_path, 0) as write:
        write(20, {"loss": 0.5, "per_task": [1.0, 2.0]})
        write(40, {"loss": 0.25, "spearman": 1.0})
    assert scalars(tmp_path) == {("loss", 20): 0.5, ("loss", 40): 0.25, ("spearman", 40): 1.0}


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with event_writer(tmp_path / "events", 0) as write:
        write(20, {"loss": 0.5})
    assert not (tmp_path / "events").exists()
