"""Floor 4: where blocks of rows come from. A solver sees nothing but ``sum(fn)`` over blocks.

Tables larger than memory: ``from_npy``, ``from_parquet``, ``from_csr_shards``, ``from_svmlight`` and ``from_dask`` make
objects that ``SoftmaxClassifier.fit`` takes in the place of X.
"""

from normexp.rows.blocks import Block as Block
from normexp.rows.blocks import RowBlocks as RowBlocks
from normexp.rows.csr_shards import from_csr_shards as from_csr_shards
from normexp.rows.dask_rows import DaskRows as DaskRows
from normexp.rows.dask_rows import DaskTable as DaskTable
from normexp.rows.dask_rows import from_dask as from_dask
from normexp.rows.dask_rows import is_dask as is_dask
from normexp.rows.dask_rows import labelled as labelled
from normexp.rows.labels import Labels as Labels
from normexp.rows.labels import digest as digest
from normexp.rows.labels import encode as encode
from normexp.rows.memory import ColumnMap as ColumnMap
from normexp.rows.memory import DenseRows as DenseRows
from normexp.rows.memory import SparseRows as SparseRows
from normexp.rows.memory import row_blocks as row_blocks
from normexp.rows.npy import from_npy as from_npy
from normexp.rows.parquet import from_parquet as from_parquet
from normexp.rows.stored import ArrayRows as ArrayRows
from normexp.rows.stored import StoredRows as StoredRows
from normexp.rows.streamed import LabelledRows as LabelledRows
from normexp.rows.streamed import StreamedRows as StreamedRows
from normexp.rows.svmlight import from_svmlight as from_svmlight

__all__ = [
    "ArrayRows",
    "Block",
    "ColumnMap",
    "DaskRows",
    "DaskTable",
    "DenseRows",
    "LabelledRows",
    "Labels",
    "RowBlocks",
    "SparseRows",
    "StoredRows",
    "StreamedRows",
    "digest",
    "encode",
    "from_csr_shards",
    "from_dask",
    "from_npy",
    "from_parquet",
    "from_svmlight",
    "is_dask",
    "labelled",
    "row_blocks",
]
