"""A config.yaml that is read part by part says what it says read whole."""

import pytest
import yaml

from poolbench.foreign import Unreadable, parsed_yaml
from poolbench.records.config_text import parsed_config
from tests.report.synthetic import make_config

WHOLE = {
    "plain": "a: 1\nb: [x, 2.5, null]\nc:\n  d: yes\n  e:\n  - 1\n  - f: {}\n",
    "a list at the margin": "pool:\n- _target_: a.B\n  size: 2\n- _target_: a.C\nseed: 3\n",
    "a run_id": "seed: 3\nrun_id: max-convnet-s3-0123456789\n",
    "a run_id that is a number": "seed: 3\nrun_id: 12345\n",
    "a run_id with a remark": "run_id: max-s3-0123456789 # so\nseed: 3\n",
    "no end of line": "a:\n  b: 1\nrun_id: max-convnet-s3-0123456789",
    "a key twice": "a: 1\nb: 2\na: 3\n",
    "an anchor used in another part": "a: &x\n  c: 1\nb: *x\n",
    "a merge": "b: 1\na: 2\n<<: {b: 5, c: 6}\n",
    "a text over two lines": "a: 'one\n  two'\nb: 2\n",
    "a text that goes on at the margin": 'a: "one\nb: 2"\nc: 3\n',
    "braces that go on at the margin": "a: {x: 1,\nb: 2}\nc: 3\n",
    "a literal text": "a: |\n  b: 2\n\n  c: 3\n\nd: 4\n",
    "a literal text with its end": "a: |+\n  b: 2\n\n\nd: 4\n",
    "times and dates": "a: 12:30\nb: 2024-05-01\nc: 1e-3\n",
    "remarks": "# first\na: 1 # one\n# two\nb: 2\n",
    "an end of the document": "a: 1\n...\nb: 2\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a directive": "%YAML 1.1\n---\na: 1\n",
    "Windows' ends of lines": "a: 1\r\nb: 2\r\n",
    "no ASCII": "a: größe\nb: 2\n",
    "another break of lines": "a: 1\x85b: 2\n",
    "a complex key": "? a\n: b\nc: 1\n",
    "a text alone": "nothing\n",
    "a list": "- 1\n- 2\n",
    "nothing": "",
    "braces": "{a: 1, b: 2}\n",
    "a base of 60 in a tag": "a: !!int 12:30\nb: 1\n",
    "an unknown tag": "a: !thing 1\nb: 1\n",
    "indented from the start": "  a: 1\n  b: 2\n",
}


def read_by(parse, data):
    try:
        return parse(data)
    except Unreadable as error:
        return str(error)


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_parts_say_what_the_whole_says(text):
    data = text.encode()
    whole = read_by(parsed_yaml, data)
    for _ in range(2):  # the second time the parts are known
        found = read_by(parsed_config, data)
        assert found == whole
        assert repr(found) == repr(whole)


def test_configs_as_cells_leave_them_are_read_as_they_were():
    for pool in ("max", "lp"):
        for seed in range(3):
            config = make_config(pool, seed)
            assert parsed_config(yaml.safe_dump(config, sort_keys=False).encode()) == config


def test_what_one_reader_changes_another_does_not_see():
    data = b"a:\n  b: [1]\n"
    parsed_config(data)["a"]["b"].append(2)
    assert parsed_config(data) == {"a": {"b": [1]}}


def test_parts_do_not_get_around_the_bounds_of_the_whole():
    data = b"".join(b"k%d: 1\n" % number for number in range(1001))  # keys, of which there are 1,000 at most
    with pytest.raises(Unreadable, match="mapping of 1,001 keys"):
        parsed_config(data)
