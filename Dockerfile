# Two images of one checkout: `make images`, which is
#
#   make dist
#   docker build --target dispatcher --tag lowcode-faas-dispatcher .
#   docker build --target worker --tag lowcode-faas-worker .
#
# The wheels come from dist/. What is not there, or is there for another Python than that of BASE,
# pip gets from its index; with --build-arg PIP_NO_INDEX=1 the network is not asked.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build-dispatcher
ARG PIP_NO_INDEX
ARG PIP_INDEX_URL
ENV PIP_FIND_LINKS=/dist PIP_CONSTRAINT=/dist/run.txt PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/run.txt dist/*.whl /dist/
# Everything but what runs code: no runner, and so no client of the Docker Engine.
RUN python -m venv --without-pip /opt/lowcode-faas \
    && python -m pip --python /opt/lowcode-faas/bin/python install \
        $(ls /dist/lowcode_faas_*.whl | grep -v _runner)

FROM ${BASE} AS runtime
ENV PATH=/opt/lowcode-faas/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    LOWCODE_FAAS_DATA_DIR=/data
# A number and no name, so that orchestrators can see that it is not root.
RUN install -d -o 10001 -g 10001 -m 700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
ENTRYPOINT ["lowcode-faas"]

FROM runtime AS dispatcher
COPY --from=build-dispatcher /opt/lowcode-faas /opt/lowcode-faas
EXPOSE 8080
CMD ["dispatcher"]

FROM build-dispatcher AS build-worker
ARG PIP_NO_INDEX
ARG PIP_INDEX_URL
RUN python -m pip --python /opt/lowcode-faas/bin/python install /dist/lowcode_faas_docker_runner-*.whl

# Runs with the engine's socket, and a group that may use it:
#   docker run -v /var/run/docker.sock:/var/run/docker.sock --group-add "$(stat -c %g /var/run/docker.sock)" …
FROM runtime AS worker
COPY --from=build-worker /opt/lowcode-faas /opt/lowcode-faas
EXPOSE 9090
CMD ["worker"]
