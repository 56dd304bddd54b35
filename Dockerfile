# Airflow 3.3 as Astro Runtime (https://www.astronomer.io/docs/runtime/runtime-release-notes). The image installs
# requirements.txt by itself and takes dags/, plugins/ and include/ from this folder; `astro dev start` also imports
# airflow_settings.yaml. Any other image with Airflow 3.3 works the same way: install requirements.txt, put dags/ and
# plugins/ where it looks for them, and keep include/ beside them.
FROM astrocrpublic.azurecr.io/runtime:3.3-2-python-3.12

# The data root has to outlive the container: mount a volume there.
ENV OPPORTUNITY_SYNC_DATA=/usr/local/airflow/data
