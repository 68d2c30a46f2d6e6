# %% [markdown]
# # Digit Recognizer: fifteen CNNs on two GPUs
#
# This notebook looks at the data, cross-validates one model, then trains fifteen convolutional networks of five
# families on the competition's own 42,000 images and averages them into `submission.csv`. Before you run it, in the
# panel on the right:
#
# 1. **Add Input**: the competition *Digit Recognizer*.
# 2. **Session options**: accelerator *GPU T4 x2*, and *Internet on*, which the installation needs.
#
# **Without internet**, attach two datasets: a copy of the repository, and the packages, which this command collects on
# a Linux machine with Python 3.12: `pip download --dest wheels setuptools '.[cuda12]'`.

# %% [markdown]
# Set the address of your clone, unless you have attached the code as a dataset.

# %% tags=["parameters"]
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/YOUR-NAME/jaxnets"
PRESET = "competition"  # "quick" takes minutes, for a first test
DATA = "kaggle"
FAMILY, FOLDS = "wide_cnn", "5"  # what is cross-validated
INPUTS, OUTPUTS = Path("/kaggle/input"), Path("/kaggle/working")
CODE = Path.home() / "jaxnets"
PYTHON = None  # of an environment with the package (default: a new environment)

# %% [markdown]
# Get the code, from the attached dataset if there is one.

# %%
attached = sorted(INPUTS.glob("**/experiments/pipeline.py"))
if attached and not CODE.is_dir():
    shutil.copytree(attached[0].parents[1], CODE)
if not CODE.is_dir():
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, CODE], check=True)
sys.path.insert(0, str(CODE))

# %% [markdown]
# Install it in a separate environment, with CUDA. This takes a few minutes and leaves Kaggle's own packages alone.

# %%
from experiments.notebooks.host import competition, install, run, show

if PYTHON is None:
    PYTHON = install(CODE, Path.home() / "jaxnets-environment", wheels=INPUTS)
run(PYTHON, "-c", "import jax; print(jax.devices())")
options = ["--data", DATA, *(["--data-path", competition(INPUTS)] if DATA == "kaggle" else [])]

# %% [markdown]
# ## The data, and how training augments it
#
# The slant and the width of digits differ from writer to writer, so the augmentation varies both.

# %%
run(PYTHON, "-m", "experiments.notebooks.preview", *options, "--preset", PRESET, "--out", OUTPUTS / "preview")
show(OUTPUTS / "preview")

# %% [markdown]
# ## Cross-validation of one model
#
# Each fold is predicted by a model that was trained on the others, so the table scores all labelled images honestly.
# The figures show the learning curves of the first fold, and the images that are misclassified.

# %%
crossed = OUTPUTS / "cross-validation"
folds = ["--families", FAMILY, "--folds", FOLDS, "--out", crossed]
run(PYTHON, "-m", "experiments.cross_validate", *options, "--preset", PRESET, *folds)
show(crossed, "learning_curves.png", "confusion.png", "missed.png")

# %% [markdown]
# ## The entry
#
# Train, predict and average. If the session ends before, run the notebook again: it resumes.

# %%
results = OUTPUTS / "results"
run(PYTHON, "-m", "experiments.pipeline", *options, "--preset", PRESET, "--out", results)

# %% [markdown]
# This shows the report, if images were held out; the preset *competition* trains on all of them.

# %%
show(results)

# %% [markdown]
# This copies the predictions to where Kaggle looks for them: save the notebook, then press *Submit to Competition*.

# %%
shutil.copy(results / "submission.csv", OUTPUTS / "submission.csv")
print(*(OUTPUTS / "submission.csv").read_text().splitlines()[:4], sep="\n")
