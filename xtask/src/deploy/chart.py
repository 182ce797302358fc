"""Renders the Helm chart over a matrix of values, and validates what comes out.

Usage: chart.py CHART MATRIX FIXTURES OUT

MATRIX/accepted/*.yaml are values that must render; MATRIX/refused.yaml lists values, merged into those of
MATRIX/accepted/minimal.yaml, that must be refused with a given text. For each accepted case, OUT gets the rendered
objects, and the files that each pod would see, under the paths it would see them. Prints the rows of a table as JSON.
"""

import copy
import json
import pathlib
import sys

import helm_python
import kubernetes_validate
import references
import yaml

VERSIONS = ["1.27", "1.29", "1.31", "1.33", "1.35", "1.36", "1.37"]
# Custom resources, whose schemas are not part of Kubernetes.
FOREIGN = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "ExternalSecret"}
PLACES = ["/etc/fanzfiliate-edge", "/var/lib/fanzfiliate-edge"]


class Refused(Exception):
    pass


def render(chart, values):
    """The objects of a release, after the schema has accepted the values."""
    try:
        chart.validate_schema(values)
        manifests = chart.render(values, name="tracking", namespace="fanz", is_install=True)
    except helm_python.HelmError as error:
        raise Refused(str(error)) from error
    texts = [text for path, text in sorted(manifests.items()) if not path.endswith("NOTES.txt")]
    notes = [text for path, text in manifests.items() if path.endswith("NOTES.txt")]
    assert all("<no value>" not in text for text in texts + notes), "a value is missing"
    return [object for text in texts for object in yaml.load_all(text, UniqueKeys) if object]


class UniqueKeys(yaml.SafeLoader):
    """Refuses keys that are given twice, which YAML libraries otherwise accept in silence."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"keys given twice: {twice}"
        return super().construct_mapping(node, deep)


def validate(objects):
    names = [(object["kind"], object["metadata"]["name"]) for object in objects]
    assert len(names) == len(set(names)), f"two objects have one name: {sorted(names)}"
    for object in objects:
        for version in VERSIONS if object["kind"] not in FOREIGN else []:
            kubernetes_validate.validate(object, version, strict=True)


def merged(base, patch):
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(base)
    for key, value in patch.items():
        result[key] = merged(base.get(key), value)
    return result


class Files:
    """What the pods of a case see."""

    def __init__(self, objects, fixtures, out):
        self.fixtures, self.out = fixtures, out
        self.objects = {(it["kind"], it["metadata"]["name"]): it for it in objects}

    def write(self):
        roots = []
        for (kind, _), object in self.objects.items():
            if kind != "StatefulSet":
                continue
            ordinals = object["spec"].get("ordinals", {})
            pod = f"{object['metadata']['name']}-{ordinals.get('start', 0)}"
            roots.append(self.write_pod(pod, object["spec"]["template"]["spec"]))
        return roots

    def write_pod(self, pod, spec):
        root = self.out / pod
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        (container,) = spec["containers"]
        for mount in container["volumeMounts"]:
            place = root / mount["mountPath"].lstrip("/")
            if mount["name"] not in volumes:
                place.mkdir(parents=True, exist_ok=True)
                continue
            sub_path = mount.get("subPathExpr", mount.get("subPath", "")).replace("$(POD_NAME)", pod)
            for path, text in self.content(volumes[mount["name"]]).items():
                if path == sub_path:
                    self.write_file(place, text, root)
                elif not sub_path or path.startswith(sub_path + "/"):
                    self.write_file(place / path.removeprefix(sub_path).lstrip("/"), text, root)
        keys = sorted(path.name for path in root.rglob("*.key"))
        assert keys in (["edge.key"], ["aggregator.key"]), f"{pod} sees the keys {keys}"
        program = container["command"][0]
        return {"program": program, "config": str(root / container["args"][-1].lstrip("/"))}

    def content(self, volume):
        """The files of a volume by path."""
        if "configMap" in volume:
            return self.items("ConfigMap", volume["configMap"])
        if "secret" in volume:
            return self.items("Secret", {**volume["secret"], "name": volume["secret"]["secretName"]})
        if "projected" in volume:
            sources = [source["secret"] for source in volume["projected"]["sources"]]
            return {path: text for source in sources for path, text in self.items("Secret", source).items()}
        return {path.name: path.read_text() for path in (self.fixtures / "volumes").iterdir()}

    def items(self, kind, source):
        object = self.objects.get((kind, source["name"]), {})
        data = {**object.get("data", {}), **object.get("stringData", {})}
        keys = data or self.existing(source["name"])
        items = source.get("items") or [{"key": key, "path": key} for key in keys]
        if source.get("optional"):
            items = [item for item in items if item["key"] in keys]
        return {item["path"]: self.text(item["key"], data) for item in items}

    def existing(self, name):
        """The keys of an object that is not part of the release."""
        return json.loads((self.fixtures / "existing.json").read_text())[name.removeprefix("tracking-")]

    def text(self, key, data):
        # Certificates come from the fixtures: those in values files are stand-ins.
        if key in data and not key.endswith((".pem", ".key")):
            return data[key]
        return (self.fixtures / key).read_text()

    def write_file(self, path, text, root):
        for place in PLACES:
            text = text.replace(f'"{place}', f'"{root}{place}')
        text = text.replace('"/usr/share/fanzfiliate-edge/functions', f'"{self.fixtures / "functions"}')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)


def main():
    chart_dir, matrix, fixtures, out = map(pathlib.Path, sys.argv[1:])
    rows, roots, failures = [], [], []
    with helm_python.Chart.load(str(chart_dir)) as chart:
        minimal = yaml.safe_load((matrix / "accepted/minimal.yaml").read_text())
        for path in sorted((matrix / "accepted").glob("*.yaml")):
            case = path.stem
            try:
                objects = render(chart, merged(minimal, yaml.safe_load(path.read_text())))
                validate(objects)
                references.check(objects)
                (out / "rendered").mkdir(exist_ok=True)
                (out / "rendered" / f"{case}.yaml").write_text(yaml.safe_dump_all(objects))
                roots += [{"case": case, **root} for root in Files(objects, fixtures, out / case).write()]
            except Exception as error:
                failures.append(f"{case}: {type(error).__name__}: {error}")
                continue
            foreign = sum(object["kind"] in FOREIGN for object in objects)
            valid = f"{len(objects) - foreign} objects valid in {VERSIONS[0]} to {VERSIONS[-1]}"
            rows.append([case, valid + (f", {foreign} of other APIs rendered" if foreign else "")])
        refused = yaml.safe_load((matrix / "refused.yaml").read_text())
        for case in refused:
            try:
                render(chart, merged(minimal, case["values"]))
                failures.append(f"{case['name']}: rendered, although it must be refused")
            except Refused as error:
                missing = [text for text in case["texts"] if text not in str(error)]
                if missing:
                    failures.append(f"{case['name']}: the error lacks {missing}: {error}")
        rows.append(["invalid values", f"{len(refused)} cases refused with the value and what would be right"])
    print(json.dumps({"rows": rows, "roots": roots, "failures": failures, "versions": VERSIONS}))


main()
