import jax

from jaxnets.processor import processors
from jaxnets.store.fingerprint import differences, fingerprint


def test_it_contains_versions_devices_and_variables(monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    found = fingerprint(jax.devices()[:2])
    assert found["jax"] == jax.__version__
    assert (found["devices"], found["device"], found["processors"]) == (2, "cpu", processors())
    assert found["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"


def test_differences_lists_only_what_differs():
    assert differences({"jax": "1", "processors": 2}, {"jax": "1", "processors": 2}) == ""
    text = differences({"jax": "1", "processors": 2}, {"jax": "1", "processors": 4, "XLA_FLAGS": "--a"})
    assert differences({}, {"jax": "1"}) == "the environment at the start was not recorded"
    assert text == "processors 4, was 2, XLA_FLAGS --a, was unset"


def test_only_variables_that_affect_results_count(monkeypatch):
    before = fingerprint(jax.devices())
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_LOCAL_DEVICE_IDS", "JAX_LOG_COMPILES", "JAXNETS_PULSE"):
        monkeypatch.setenv(name, "1")
    assert fingerprint(jax.devices()) == before
    for name in ("JAX_USE_HLO_LOGISTIC_LOWERING", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "NPY_DISABLE_CPU_FEATURES"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "another")
            changed = differences(before, fingerprint(jax.devices()))
        assert changed == f"{name} another, was {before.get(name, 'unset')}"


def test_numpy_results_do_not_depend_on_jax(monkeypatch):
    before = fingerprint()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=SSE4_2")
    assert fingerprint() == before
    monkeypatch.setenv("MKL_NUM_THREADS", "77")
    assert differences(before, fingerprint()).startswith("MKL_NUM_THREADS 77, was ")


def test_another_processor_is_reported(monkeypatch):
    before = fingerprint(jax.devices())
    monkeypatch.setattr("jaxnets.store.fingerprint.instructions", lambda: "older")
    assert differences(before, fingerprint(jax.devices())).startswith("instructions older, was ")
