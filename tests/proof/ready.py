"""What every process of a run would import and compile for itself; the one that they are forked from has it ready."""

from importlib import import_module

from include.contact_sync.report import render

for name in (
    "tests.proof.dying",
    "adbc_driver_postgresql.dbapi",
    "airflow.providers.postgres.hooks.postgres",
    "airflow.providers.salesforce.hooks.salesforce",
    "airflow.sdk.execution_time.supervisor",
    "pyarrow.csv",
):
    import_module(name)
for name in ("report.html", "report.txt"):
    render._environment().get_template(name)
