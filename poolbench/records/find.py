"""Finding a record by what a user calls it."""

import os
from pathlib import Path

from poolbench.records.read import ARCHIVE, Record, RecordError, archived, read_record
from poolbench.registry import nearest


def find_record(run: str | os.PathLike[str], runs_dir: Path) -> Path:
    """The record's folder: ``run`` itself if it is one, else the one in ``runs_dir`` whose run_id is ``run``, begins
    with it or ends in it (the hash).

    Raises: ValueError when there is none, or more than one.
    """
    folder = Path(run)
    if (folder / "config.yaml").is_file():
        return folder
    if folder.name != str(run):
        raise ValueError(f"{run} is no record: it has no config.yaml")
    known = sorted(path.parent.name for path in runs_dir.glob("*/config.yaml") if ".damaged-" not in path.parent.name)
    return runs_dir / _match(folder.name, known, runs_dir)


def find_run(run: str, runs_dir: Path) -> Record:
    """The record that ``run`` stands for: as for :func:`find_record`, or ``PLACE:RUN`` for one of another folder of
    records, of an archive ``records.jsonl``, or of the folder that holds one: ``results/2026_five_pools:max-convnet``.

    Raises: ValueError when there is none, more than one, or it cannot be read.
    """
    where, colon, name = run.rpartition(":")
    place = Path(where)
    try:
        if not colon or not place.exists() or Path(run).exists():
            return read_record(find_record(run, runs_dir))
        archive = place / ARCHIVE if place.is_dir() else place
        if not archive.is_file():
            return read_record(find_record(name, place))
        records = {record.run_id: record for record in archived(archive) if isinstance(record, Record)}
        return records[_match(name, sorted(records), archive)]
    except RecordError as error:
        raise ValueError(f"{run} cannot be read: {error}") from error


def _match(name: str, known: list[str], place: Path) -> str:
    """The one of ``known`` that is ``name``, begins with it or ends in it."""
    if name in known:
        return name
    matches = [each for each in known if each.startswith(name) or each.endswith(name)]
    if len(matches) > 1:  # "...-s1" is not meant to be "...-s10"
        matches = [each for each in matches if each.startswith(f"{name}-")] or matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise ValueError(f"{name!r} stands for {len(matches)} records in {place}: {shown}; give more of the name")
    hint = nearest(name, known) or " `poolbench status` lists what there is."
    raise ValueError(f"there is no record {name!r} in {place}.{hint}")
