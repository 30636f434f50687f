"""For the tests of the core and of all plugins.

`pytest --hypothesis-profile=search` looks for new counterexamples instead of trying the same cases each time.
"""

from hypothesis import HealthCheck, settings

# A machine that has other work says nothing about the code.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", PATIENT, max_examples=500)
settings.register_profile("same", PATIENT, derandomize=True, database=None)
settings.load_profile("same")
