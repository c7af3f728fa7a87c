"""What a model file may name: one fixed list, written by hand, each group with its reason.

The payload is a tree of nodes. Each node has a loader (how to build it) and a type (what to build). The pair must
stand in `ALLOWED`, or the file is refused before anything of it is built. The list never grows by what a file asks
for, nor by what the installed packages trust by themselves.

Why these are harmless. A loaded estimator is a class from this list with attributes from this list: numbers, texts,
arrays, containers and other such objects. Nothing here opens files, imports by name, evaluates text or calls what it
was given, apart from predicates of columns, which are listed one by one in `FUNCTIONS`.
"""

from typing import Final


def _of(module: str, names: str) -> frozenset[str]:
    """Full names of the blank-separated names of one module."""
    return frozenset(f"{module}.{name}" for name in names.split())


# Our own estimators and the frozen records that they hold.
NORMEXP: Final = (
    _of("normexp.linear_model.softmax_classifier", "SoftmaxClassifier")
    | _of("normexp.linear_model.softmax_classifier_cv", "SoftmaxClassifierCV")
    | _of("normexp.linear_model.generative", "LinearDiscriminant NaiveBayesSoftmax")
    | _of("normexp.calibration.temperature", "TemperatureScaling")
    | _of("normexp.calibration.ensemble_temperature", "EnsembleTemperatureScaling")
    | _of("normexp.calibration.structured", "VectorScaling StructuredMatrixScaling")
    | _of("normexp.calibration.two_classes", "QuadraticScaling BetaScaling")
    | _of("normexp.calibration.isotonic", "IsotonicScaling")
    | _of("normexp.calibration.auto", "AutoCalibrator")
    | _of("normexp.calibration.log_linear", "LogLinearPool")
    | _of("normexp.calibration.menu", "Identity")
    | _of("normexp.calibration.prior_shift", "PriorShift")
    | _of("normexp.calibration.share_matching", "ShareMatching")
    | _of("normexp.calibration.pooling", "PooledCalibrator")
    | _of("normexp.decide.conformal", "ConformalClassifier")
    | _of("normexp.decide.open_set", "OpenSetDetector")
    | _of("normexp.decide.feature_scores", "Columns Neighbours RelativeMahalanobis VirtualLogit")
    | _of("normexp.decide.selective", "SelectiveClassifier")
    | _of("normexp.trusted.table_classifier", "TableClassifier")
    | _of("normexp.solvers.outcome", "Solution")
    | _of("normexp.solvers.running", "Running")
    | _of("normexp.report.labelled", "TrainingFacts")
    | _of("normexp.trusted.labelled", "TrainingFacts")  # where files written before 0.2 found it
    | _of("normexp.trusted.trusted_classifier", "TrustedClassifier")
    | _of("normexp.trusted.balanced_fit", "BalancedFit")
    | _of("normexp.trusted.strangers", "StrangerDetector")
    | _of("normexp.tables.source", "Column Schema")
    | _of("normexp.tables.encoding", "TableEncoder")
    | _of("normexp.tables.words", "TextEncoder")
)
# Linear classifiers that may stand in TableClassifier(estimator=...), and the steps in front of them.
SKLEARN: Final = (
    _of("sklearn.linear_model._logistic", "LogisticRegression")
    | _of("sklearn.pipeline", "Pipeline FeatureUnion")
    | _of("sklearn.compose._column_transformer", "ColumnTransformer")
    | _of("sklearn.preprocessing._data", "StandardScaler MaxAbsScaler MinMaxScaler RobustScaler Normalizer")
    | _of("sklearn.preprocessing._encoders", "OneHotEncoder OrdinalEncoder")
    | _of("sklearn.preprocessing._label", "LabelEncoder LabelBinarizer")
    | _of("sklearn.impute._base", "MissingIndicator SimpleImputer")
    | _of("sklearn.decomposition._truncated_svd", "TruncatedSVD")
    | _of(
        "sklearn.feature_extraction.text",
        "CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer",
    )
)
# The parts of a fitted skrub.TableVectorizer, found by fitting one on a column of each dtype.
SKRUB: Final = (
    _of("skrub._table_vectorizer", "TableVectorizer PassThrough ShortReprDict")
    | _of("skrub._apply_to_each_col", "ApplyToEachCol")
    | _of("skrub._apply_to_cols", "ApplyToCols")  # the name of ApplyToEachCol in skrub < 0.8
    | _of("skrub._check_input", "CheckInputDataFrame")
    | _of("skrub._clean_categories", "CleanCategories")
    | _of("skrub._clean_null_strings", "CleanNullStrings")
    | _of("skrub._datetime_encoder", "DatetimeEncoder _CircularEncoder _SplineEncoder")
    | _of("skrub._drop_uninformative", "DropUninformative")
    | _of("skrub._duration_to_float", "DurationToFloat")
    | _of("skrub._string_encoder", "StringEncoder")
    | _of("skrub._to_categorical", "ToCategorical")
    | _of("skrub._to_datetime", "ToDatetime")
    | _of("skrub._to_float", "ToFloat")
    | _of("skrub._to_str", "ToStr")
    | _of("skrub.selectors._base", "All And Cols Filter Inv NameFilter Or Sub XOr")
)
# The dtypes of the columns that a table had when it was fitted.
POLARS: Final = _of(
    "polars.datatypes.classes",
    "Boolean Categorical Categories Date Datetime Decimal Duration Enum Float32 Float64 Int8 Int16 Int32 Int64 Int128 "
    "Null String Time UInt8 UInt16 UInt32 UInt64",
)
# Functions that a file may name. Each takes a column (or nothing) and answers yes or no; what it is called with comes
# from the file, but none of them calls, imports, opens or evaluates anything of that.
FUNCTIONS: Final = (
    # whether the dtype of a column is a date, a category or a number
    _of("skrub._dataframe._common", "is_any_date is_categorical is_numeric")
    # compares the number of distinct values of a column with a number
    | _of("skrub.selectors._selectors", "_cardinality_below")
    # compares the name of a column with names that were noted down at fit
    | _of("skrub._table_vectorizer", "_created_by_predicate")
)
# Enums. Their class is called with what stands in the file: it looks the value up among its members, and does nothing
# else.
ENUMS: Final = _of("normexp.solvers.outcome", "Outcome")
# Types as values: the dtype argument of an encoder, the types of the keys of a dict. Calling one of them converts a
# number or a text, no more.
_NUMPY_SCALARS: Final = _of(
    "numpy", "bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 str_ bytes_"
)
_BUILTIN_VALUES: Final = _of("builtins", "bool float int str")

# Named tuples: called with the entries that stand in the file, which they keep.
TUPLES: Final = _of("normexp.decide.conformal", "CoverageInterval")

ALLOWED: Final[dict[str, frozenset[str]]] = {
    "ObjectNode": NORMEXP | SKLEARN | SKRUB | POLARS,
    "FunctionNode": FUNCTIONS,
    "ConstructorFromReduceNode": ENUMS,
    "TypeNode": _BUILTIN_VALUES | _NUMPY_SCALARS | POLARS,
    "NdArrayNode": _of("numpy", "ndarray") | _NUMPY_SCALARS,
    "DTypeNode": _of("numpy", "dtype"),
    "SparseMatrixNode": _of("scipy.sparse._csr", "csr_matrix csr_array"),
    "DictNode": _of("builtins", "dict"),
    "ListNode": _of("builtins", "list"),
    "TupleNode": _of("builtins", "tuple") | TUPLES,
    "SetNode": _of("builtins", "set"),
    "SliceNode": _of("builtins", "slice"),
    "JsonNode": _of("builtins", "str"),
}

# The same names without the loaders, in the form that skops asks for.
TRUSTED: Final = sorted(frozenset().union(*ALLOWED.values()))

# What may be saved and loaded by itself, not only as a part.
MODELS: Final = frozenset(
    [
        "SoftmaxClassifier",
        "SoftmaxClassifierCV",
        "TableClassifier",
        "TrustedClassifier",
        "LinearDiscriminant",
        "NaiveBayesSoftmax",
        "TemperatureScaling",
        "EnsembleTemperatureScaling",
        "VectorScaling",
        "StructuredMatrixScaling",
        "QuadraticScaling",
        "BetaScaling",
        "IsotonicScaling",
        "AutoCalibrator",
        "PriorShift",
        "PooledCalibrator",
        "ShareMatching",
        "ConformalClassifier",
        "OpenSetDetector",
        "SelectiveClassifier",
    ]
)
