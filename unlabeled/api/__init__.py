"""The verbs, in Python and on the command line the same, one light file each: signature and help.

What they do is imported when they run, and torch with it.
"""

from unlabeled.api.compare import compare as compare
from unlabeled.api.embed import embed as embed
from unlabeled.api.evaluate import evaluate as evaluate
from unlabeled.api.export import export as export
from unlabeled.api.give import give as give
from unlabeled.api.inspect import inspect as inspect
from unlabeled.api.load import load as load
from unlabeled.api.outliers import outliers as outliers
from unlabeled.api.predict import predict as predict
from unlabeled.api.pretrain import pretrain as pretrain
from unlabeled.api.report import report as report
from unlabeled.api.search import search as search
from unlabeled.api.sweep import sweep as sweep
from unlabeled.api.tune import tune as tune
from unlabeled.api.views import contact_sheet as contact_sheet
