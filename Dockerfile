# The image of every Airflow service in docker-compose.yaml: Airflow, the pinned packages and the project's code.
# Tag and requirements.in name the same Airflow version.
FROM apache/airflow:3.3.2-python3.11
WORKDIR /opt/airflow

COPY --chown=airflow:0 requirements.txt ./

# `sync`, not `install`: the base image brings many more providers, whose packages contradict our pins. What is not in
# requirements.txt is removed, so that the environment is the one that the tests ran in. The folders are made here
# because a new volume takes its owner from the folder that it covers.
RUN uv pip sync --no-cache --require-hashes requirements.txt \
    && mkdir -m 0770 salesforce-ca staging

# Airflow puts dags and plugins on the path by itself, but not the folder above, where `include` is found.
ENV PYTHONPATH=/opt/airflow

COPY --chown=airflow:0 include include
COPY --chown=airflow:0 plugins plugins
COPY --chown=airflow:0 dags dags
