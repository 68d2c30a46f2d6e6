# %% [markdown]
# # Digit Recognizer on two GPUs
#
# Fifteen networks of five families, each trained on all GPUs at once on the competition's own 42,000 images, and
# averaged into one `submission.csv`. Before you run it, in the panel on the right:
#
# 1. **Add Input**: the competition *Digit Recognizer*.
# 2. **Session options**: accelerator *GPU T4 x2*, and *Internet on*, which installing needs.

# %% [markdown]
# Say where the code is: the address of your clone, unless you have attached the code as a dataset.

# %% tags=["parameters"]
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/YOUR-NAME/jaxnets"
PRESET = "competition"  # "quick" takes minutes, for a first test
DATA = "kaggle"
INPUTS, OUTPUTS = Path("/kaggle/input"), Path("/kaggle/working")
CODE = Path.home() / "jaxnets"
PYTHON = None  # of an environment with the package (default: a new environment)

# %% [markdown]
# This fetches the code, from the attached dataset if there is one.

# %%
attached = sorted(INPUTS.glob("**/experiments/pipeline.py"))
if attached and not CODE.is_dir():
    shutil.copytree(attached[0].parents[1], CODE)
if not CODE.is_dir():
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, CODE], check=True)
sys.path.insert(0, str(CODE))

# %% [markdown]
# This installs it in an environment of its own, with CUDA, in a few minutes; what Kaggle has installed stays as it is.

# %%
from experiments.notebooks.host import competition, install, run, show

if PYTHON is None:
    PYTHON = install(CODE, Path.home() / "jaxnets-environment")
run(PYTHON, "-c", "import jax; print(jax.devices())")

# %% [markdown]
# This trains, predicts, and averages; interrupted, it goes on where it stopped.

# %%
tables = ["--data-path", competition(INPUTS)] if DATA == "kaggle" else []
results = OUTPUTS / "results"
run(PYTHON, "-m", "experiments.pipeline", "--preset", PRESET, "--data", DATA, *tables, "--out", results)

# %% [markdown]
# This shows the report, if rows were held out to judge by; the preset *competition* trains on all of them.

# %%
show(results)

# %% [markdown]
# This puts the answers where Kaggle looks for them: press *Submit to Competition* once the notebook has been saved.

# %%
shutil.copy(results / "submission.csv", OUTPUTS / "submission.csv")
print(*(OUTPUTS / "submission.csv").read_text().splitlines()[:4], sep="\n")
