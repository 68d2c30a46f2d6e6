# %% [markdown]
# # From a network in NumPy to one that reads your digit
#
# First a network in NumPy alone, then a convolutional one in JAX, then both read a digit that you have written. Under
# **Runtime, Change runtime type** choose *T4 GPU*; without one it works too, some minutes longer.

# %% [markdown]
# Say where the code is: the address of your clone.

# %% tags=["parameters"]
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/YOUR-NAME/jaxnets"
DATA = "mnist"
FAMILY, PRESET = "senet", "quick"
IMAGE = None  # file of one digit, dark on light (default: an upload dialog)
OUTPUTS = Path("/content/results")
CODE = Path("/content/jaxnets")
PYTHON = None  # of an environment with the package (default: a new environment)

# %% [markdown]
# This fetches the code and installs it in a separate environment; what Colab has installed stays as it is.

# %%
if not CODE.is_dir():
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, CODE], check=True)
sys.path.insert(0, str(CODE))
from experiments.notebooks.host import install, run, show

if PYTHON is None:
    PYTHON = install(CODE, Path("/content/jaxnets-environment"))

# %% [markdown]
# This trains the network of a hundred tutorials, one hidden layer of 64 units in NumPy, and shows what it learnt.

# %%
scratch = OUTPUTS / "scratch"
run(PYTHON, "-m", "experiments.train_scratch", "--recipe", "classic", "--data", DATA, "--out", scratch)
show(scratch)

# %% [markdown]
# This trains a convolutional network: it sees every image warped a little, and misses far fewer.

# %%
cnn = OUTPUTS / "cnn"
run(PYTHON, "-m", "experiments.train", "--family", FAMILY, "--preset", PRESET, "--data", DATA, "--out", cnn)

# %% [markdown]
# This asks for a picture of one digit: write it thickly, dark on white paper, and photograph or draw it.

# %%
if IMAGE is None:
    from google.colab import files

    IMAGE = Path(next(iter(files.upload()))).resolve()

# %% [markdown]
# This shows your digit as the networks see it, 28 by 28 pixels like those of MNIST, and what each of them says.

# %%
networks = ["--runs", cnn / "members" / f"{FAMILY}-0", "--scratch", scratch]
output = ["--out", OUTPUTS / "answer" / "answer.png"]
run(PYTHON, "-m", "experiments.tools.classify_photo", "--image", IMAGE, *networks, *output)
show(OUTPUTS / "answer")
