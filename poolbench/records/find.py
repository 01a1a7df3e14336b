"""Finding a record by what a user calls it."""

import os
from pathlib import Path

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
    if folder.name in known:
        return runs_dir / folder.name
    matches = [name for name in known if name.startswith(folder.name) or name.endswith(folder.name)]
    if len(matches) > 1:  # "...-s1" is not meant to be "...-s10"
        matches = [name for name in matches if name.startswith(f"{folder.name}-")] or matches
    if len(matches) == 1:
        return runs_dir / matches[0]
    if matches:
        shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise ValueError(
            f"{str(run)!r} stands for {len(matches)} records in {runs_dir}: {shown}; give more of the name"
        )
    hint = nearest(folder.name, known) or " `poolbench status` lists what there is."
    raise ValueError(f"there is no record {str(run)!r} in {runs_dir}.{hint}")
