"""Rows that do not fit into memory: encoded block by block into a scratch folder, and fitted from there."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from scipy import sparse

from normexp.base.errors import InputError
from normexp.base.memory import available_bytes, in_words
from normexp.base.witness import Witness
from normexp.rows import StoredRows, from_csr_shards, from_npy
from normexp.solvers import Progress as FitProgress
from normexp.tables import Block, Progress, Schema, Source
from normexp.tables.learning import Learned, learn_encoding
from normexp.tables.size import Size, size_of, surely_fits
from normexp.trusted.scratch import remove_abandoned, scratch, scratch_folder

_SHARE: Final = 0.5  # of the free memory, where nobody says how much
_BLOCK_SHARE: Final = 16  # a block with all that is made of it takes one part in so many
_FEWEST_BLOCK_ROWS: Final = 256
_MOST_BLOCK_ROWS: Final = 1 << 16
_DISK_MARGIN: Final = 1.2  # the first rows may be thinner than the others


@dataclass(frozen=True)
class Telling:
    """To whom it is told how far a fit is.

    Parameters
    ----------
    progress : callable or None
        Called as ``progress(rows_done, total)``.
    on_phase : callable or None
        Called with some words for what is done now.
    on_outside : callable or None
        Called with a sentence where rows stay outside memory.
    """

    progress: Progress | None = None
    on_phase: Callable[[str], None] | None = None
    on_outside: Callable[[str], None] | None = None

    def rows(self, done: int, total: int | None) -> None:
        """So many rows of this phase are done."""
        if self.progress is not None:
            self.progress(done, total)

    def phase(self, words: str) -> None:
        """Something else begins."""
        if self.on_phase is not None:
            self.on_phase(words)

    def fitting(self, told: FitProgress) -> None:
        """The solver tells of its pass over the rows."""
        gap = f", within {told.suboptimality:.0e}" if np.isfinite(told.suboptimality) else ""
        self.phase(f"fitting, pass {told.n_passes + 1}{gap}, {told.rows_per_s:,.0f} rows/s")
        self.rows(told.rows_done, told.n_rows)


@final
class OutsideMemory:
    """A file whose rows stay outside memory while they are fitted.

    Parameters
    ----------
    source : Source
        The rows.
    schema : Schema
        What they hold.
    size : Size
        What they would take.
    room : int
        Bytes that may be taken.
    told : Telling
        To whom it is told.
    """

    def __init__(self, source: Source, schema: Schema, size: Size, room: int, told: Telling) -> None:
        self._source, self._schema, self._size, self._room, self._told = source, schema, size, room, told
        self._batch_rows = int(np.clip(room // _BLOCK_SHARE // size.row_bytes, _FEWEST_BLOCK_ROWS, _MOST_BLOCK_ROWS))
        self._witnesses = [Witness(path, of="fit") for path in source.paths]

    @classmethod
    def of(
        cls, source: Source, schema: Schema, max_memory: int | None, told: Telling, /, *, always: bool
    ) -> Self | None:
        """Decide whether the rows fit into memory.

        Parameters
        ----------
        source : Source
            The rows.
        schema : Schema
            What they hold.
        max_memory : int or None
            Bytes that they may take; None: half of what is free.
        told : Telling
            To whom it is told.
        always : bool
            Whether they stay outside although they would fit.

        Returns
        -------
        OutsideMemory or None
            None where they fit.
        """
        free = available_bytes()
        if max_memory is None and free is None:
            room: int | None = None
        else:
            room = max_memory if max_memory is not None else int(_SHARE * (free or 0))
        if not always and (room is None or surely_fits(source, schema, room)):
            return None
        size = size_of(source, schema)
        if not always and room is not None and size.total <= room:
            return None
        return cls(source, schema, size, size.total if room is None else room, told)

    def learn(self, seed: int) -> Learned:
        """Learn how the rows are encoded, in one or two passes over the file.

        Parameters
        ----------
        seed : int
            Of what is drawn.

        Returns
        -------
        Learned
            The encoding and the classes.
        """
        self._announce()
        return learn_encoding(self._source, self._schema, self._read, seed=seed, room=self._room)

    @contextlib.contextmanager
    def encoded(self, learned: Learned) -> Iterator[StoredRows]:
        """Encode the rows into a scratch folder, which lasts as long as the context.

        Parameters
        ----------
        learned : Learned
            From `learn`.

        Yields
        ------
        StoredRows
            The encoded rows.
        """
        place = scratch_folder()
        with scratch(place) as folder:
            n_rows = len(learned.index)
            try:
                rows = self._write(learned, folder)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise self._no_room(place, shutil.disk_usage(place).free) from None
            if rows.n_rows != n_rows:
                raise InputError(
                    f"{self._source.path}: the file had {n_rows} rows and now has {rows.n_rows}, so it was changed "
                    "while it was read; start again."
                )
            yield rows

    def _announce(self) -> None:
        """Say in one line that the rows stay outside memory, and see that there is room for them on the disk."""
        place, needed = scratch_folder(), int(_DISK_MARGIN * self._size.rows * self._size.encoded_bytes)
        remove_abandoned(place)
        free = shutil.disk_usage(place).free
        if needed > free:
            raise self._no_room(place, free)
        if self._told.on_outside is not None:
            self._told.on_outside(
                f"{self._source.path}: about {self._size.rows:,} rows, {in_words(self._size.total)} in memory; with "
                f"{in_words(self._room)} for them they are read in blocks, from about {in_words(needed)} of encoded "
                f"rows in {str(place)!r}."
            )

    def _no_room(self, place: Path, free: int) -> InputError:
        needed = _DISK_MARGIN * self._size.rows * self._size.encoded_bytes
        return InputError(
            f"{self._source.path}: encoding its rows block by block takes about {in_words(needed)} in {str(place)!r}, "
            f"where {in_words(free)} are free. Set the variable TMPDIR to a folder with more room, or allow more "
            "memory with --max-memory."
        )

    def _write(self, learned: Learned, folder: Path) -> StoredRows:
        """All rows, encoded: one .npy file, or CSR matrices."""
        encoder, n_rows, shards = learned.encoder, len(learned.index), 0
        with (folder / "X.npy").open("wb") as file:
            for block in self._read("encoding", False):
                part: Any = encoder.transform(block.features)
                is_sparse = sparse.issparse(part)
                if is_sparse:
                    sparse.save_npz(folder / f"{shards:09}.npz", part, compressed=False)
                elif shards == 0:
                    header = {"descr": part.dtype.str, "fortran_order": False, "shape": (n_rows, part.shape[1])}
                    np.lib.format.write_array_header_1_0(file, header)
                if not is_sparse:
                    file.write(np.ascontiguousarray(part).data)
                shards += 1
        if any(folder.glob("*.npz")):
            (folder / "X.npy").unlink()
            return from_csr_shards(folder)
        return from_npy(folder / "X.npy")

    def _read(self, doing: str, with_target: bool) -> Iterator[Block]:
        """One pass over the file, which must be what it was."""
        self._told.phase(doing)
        for witness in self._witnesses:
            witness.check()
        total = self._source.n_rows
        for block in self._source.batches(self._schema, with_target=with_target, batch_rows=self._batch_rows):
            yield block
            self._told.rows(block.start + block.n_rows, total)
        for witness in self._witnesses:
            witness.check()


@contextlib.contextmanager
def standing(checkpoint: str | os.PathLike[str] | None, /) -> Iterator[None]:
    """Say with each error over a file that the checkpoint stands, where there is one.

    Parameters
    ----------
    checkpoint : path or None
        The file.
    """
    try:
        yield
    except InputError as error:
        if checkpoint is None or not Path(checkpoint).exists() or str(checkpoint) in str(error):
            raise
        raise InputError(
            f"{error} The checkpoint {str(checkpoint)!r} stands: the same call goes on from there."
        ) from error
