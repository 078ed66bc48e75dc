# The server alone: ONNX Runtime and Starlette, no PyTorch.
#
#   docker build -f docker/serve.Dockerfile -t segkit-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/models:/models:ro" -v "$PWD/tokens:/run/tokens:ro" segkit-serve
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY segkit segkit
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve]' && rm -rf /src/*

RUN useradd --uid 10001 --create-home segkit
USER segkit
WORKDIR /home/segkit
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]

# In a container 0.0.0.0 is the only address that can be published, and so a token is needed.
ENTRYPOINT ["segkit", "serve", "--host", "0.0.0.0"]
CMD ["--repository", "/models", "--token-file", "/run/tokens"]
