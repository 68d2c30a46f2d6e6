import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxnets.models.conv import FORWARD, Plan, by_xla, choose, convolution, convolve

pytestmark = pytest.mark.usefixtures("strict_dtypes", "quick_compilation")
INPUT_GRADIENTS = (*FORWARD, "flipped")


def arrays(size, height, width):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, height, width, 3)), rng.normal(size=(size, size, 3, 4))


@pytest.mark.parametrize("shape", [(7, 8), (6, 5)])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_every_strategy_equals_xla(size, stride, padded, shape, assert_same_in_float64):
    border = ((size - 1) // 2, size // 2) if padded else (0, 0)
    strategies = [name for name in INPUT_GRADIENTS if stride == 1 or name != "flipped"]
    plans = [Plan(name if name in FORWARD else "xla", name, name if name in FORWARD else "xla") for name in strategies]

    def outputs(call):
        return lambda x, kernel: jnp.stack([call(x, kernel, plan) for plan in plans])

    ours = outputs(lambda x, kernel, plan: convolution.bind(x, kernel, stride=stride, border=border, plan=plan))
    theirs = outputs(lambda x, kernel, plan: by_xla(x, kernel, stride, border))
    assert_same_in_float64(ours, theirs, *arrays(size, *shape))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolve_is_a_convolution(size, stride, padding, assert_same_in_float64):
    # XLA's own "SAME" pads an even map on one side only at stride 2.
    border = ((size - 1) // 2, size // 2) if padding == "SAME" else (0, 0)
    ours = lambda x, kernel: convolve(x, kernel, stride=stride, padding=padding)
    assert_same_in_float64(ours, lambda x, kernel: by_xla(x, kernel, stride, border), *arrays(size, 7, 8))


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev, jax.hessian])
def test_all_modes_of_differentiation_are_supported(transform):
    plan = Plan("xla", "flipped", "columns")
    ours = lambda x, kernel: convolution.bind(x, kernel, stride=1, border=(1, 1), plan=plan)
    with jax.enable_x64(True):
        x, kernel = arrays(3, 3, 4)
        squares = lambda call: lambda x, kernel: (call(x, kernel) ** 2).sum((1, 2))
        theirs = lambda x, kernel: by_xla(x, kernel, 1, (1, 1))
        actual, desired = (transform(squares(call), argnums=(0, 1))(x, kernel) for call in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), actual, desired)


def test_shard_map_differentiates_a_convolution():
    x, kernel = (jnp.asarray(array, jnp.float32) for array in arrays(3, 7, 8))
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    specs = {"in_specs": (PartitionSpec("data"), PartitionSpec()), "out_specs": PartitionSpec("data")}
    loss = lambda kernel, function: (function(x, kernel) ** 2).sum()
    actual = jax.jit(jax.grad(lambda kernel: loss(kernel, jax.shard_map(convolve, mesh=mesh, **specs))))(kernel)
    # Sums of 2 * 7 * 8 products of 27 terms each, in another order: relative to the largest.
    scale = np.abs(desired := jax.grad(lambda kernel: loss(kernel, convolve))(kernel)).max()
    np.testing.assert_allclose(actual, desired, atol=200 * 2**-24 * scale)


@pytest.mark.parametrize(
    ("platform", "dtype", "size", "stride", "border", "plan"),
    [
        # Maps of 14 x 14 x 8.
        ("gpu", "bfloat16", 3, 1, (1, 1), Plan("xla", "xla", "xla")),
        ("cpu", "bfloat16", 3, 1, (1, 1), Plan("xla", "flipped", "padded")),
        ("cpu", "bfloat16", 3, 2, (1, 1), Plan("xla", "columns", "columns")),
        ("cpu", "bfloat16", 5, 1, (0, 0), Plan("xla", "flipped", "padded")),
        ("cpu", "float32", 3, 1, (1, 1), Plan("columns", "columns", "columns")),
        ("cpu", "float32", 3, 1, (0, 0), Plan("xla", "columns", "columns")),
        ("cpu", "float32", 5, 1, (2, 2), Plan("xla", "xla", "xla")),
        ("cpu", "float32", 7, 1, (0, 0), Plan("xla", "columns", "columns")),
    ],
)
def test_the_plan_follows_the_table(platform, dtype, size, stride, border, plan):
    x, kernel = jax.ShapeDtypeStruct((64, 14, 14, 8), dtype), jax.ShapeDtypeStruct((size, size, 8, 8), dtype)
    assert choose(platform, x, kernel, stride, border) == plan


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [8, 128])
def test_a_map_smaller_than_its_kernel_is_not_convolved_by_xla(channels, dtype):
    """XLA's CPU backend exchanges such a map with the kernel, which is fifty times slower."""
    x, kernel = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((64, 4, 4, channels), (5, 5, channels, 8)))
    plan = choose("cpu", x, kernel, 1, (2, 2))
    assert "xla" not in (plan.output, plan.input_gradient)


def test_the_default_device_decides_which_platform_is_compiled_for():
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 8, 4), (3, 3, 4, 4)))
    with jax.default_device("gpu"):
        assert "conv_general_dilated" in str(jax.make_jaxpr(convolve)(x, kernel))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(convolve)(x, kernel))
