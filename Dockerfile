# The worker, with the commands of starter.py beside it: `docker-compose exec worker python starter.py pending`.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --uid 10001 --create-home abeyance && install -d -o abeyance -g abeyance /workspace && \
    install -d -m 700 -o abeyance -g abeyance /sessions

WORKDIR /app

COPY requirements-runtime.lock ./
RUN pip install --require-hashes --only-binary :all: -r requirements-runtime.lock

COPY abeyance ./abeyance
COPY activities ./activities
COPY agents ./agents
COPY workflows ./workflows
COPY worker.py starter.py deploy/healthcheck.py ./

USER abeyance
VOLUME /workspace /sessions
ENV ABEYANCE_WORKSPACE=/workspace ABEYANCE_SESSIONS=/sessions

# As a list: SIGTERM must reach Python, not a shell.
CMD ["python", "worker.py"]
