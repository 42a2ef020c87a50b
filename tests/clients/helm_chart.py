"""Renders the Helm chart with Helm itself, checks the manifests against the schemas of Kubernetes, and prints them.

    helm_chart.py VALUES VERSION...      VALUES as JSON; versions of Kubernetes; it prints JSON

Ends with 1 and a sentence if Helm refuses the values or the chart, or if a manifest does not fit.
"""

import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from helm_python import Chart, HelmError, lint

FOLDER = Path(__file__).parents[2] / "deploy/helm/footfall"


def main(values: dict[str, object], versions: list[str]) -> None:
    complaints = [each for each in lint(FOLDER, values, strict=True)["messages"] if each["severity"] > 1]
    if complaints:
        sys.exit(f"lint: {complaints}")
    with Chart.load(FOLDER) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="stats")
    manifests = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    for manifest in manifests:
        if not manifest["apiVersion"].startswith("keda.sh/"):  # Kubernetes has no schemas of KEDA
            for version in versions:
                kubernetes_validate.validate(manifest, version, strict=True)
    print(json.dumps(manifests))


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]), sys.argv[2:])
    except (HelmError, kubernetes_validate.ValidationError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
