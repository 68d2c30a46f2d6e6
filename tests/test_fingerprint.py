import jax

from jaxnets.fingerprint import differences, fingerprint, processors


def test_it_names_versions_devices_and_flags(monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    found = fingerprint(jax.devices()[:2])
    assert found["jax"] == jax.__version__
    assert (found["devices"], found["device"], found["processors"]) == (2, "cpu", processors())
    assert found["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"


def test_only_what_differs_is_named():
    assert differences({"jax": "1", "processors": 2}, {"jax": "1", "processors": 2}) == ""
    told = differences({"jax": "1", "processors": 2}, {"jax": "1", "processors": 4, "XLA_FLAGS": "--a"})
    assert told == "processors 4, was 2, XLA_FLAGS --a, was unset"
