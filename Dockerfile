# One image for every process; docker-compose.yml says which one a container runs.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BIND_HOST=0.0.0.0 DATA_DIR=/var/lib/footfall
WORKDIR /app

# requirements.txt only: the embedded servers and the test tools stay out.
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

COPY analytics analytics
COPY config config
COPY footfall footfall
COPY ingest_app ingest_app
COPY report_app report_app
COPY tasks tasks
COPY web web

# A process that starts writes no .pyc files, and would compile 300 modules each time.
RUN python -m compileall -q .
RUN useradd --system --no-create-home footfall && install --directory --owner footfall /var/lib/footfall
USER footfall

EXPOSE 3000 3001 5555
CMD ["gunicorn", "--config", "python:ingest_app.gunicorn", "ingest_app.wsgi:app"]
