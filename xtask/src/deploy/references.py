"""Checks that the objects of a release refer to each other by names that exist. Schemas can't express that, and a
cluster accepts a selector that selects nothing."""


def check(objects):
    workloads = [object for object in objects if object["kind"] == "StatefulSet"]
    services = [object for object in objects if object["kind"] == "Service"]
    for workload in workloads:
        check_pod(workload, services)
    for object in objects:
        CHECKS.get(object["kind"], lambda *_: None)(object, workloads, services)


def check_pod(workload, services):
    name = workload["metadata"]["name"]
    spec = workload["spec"]["template"]["spec"]
    expect(selected(workload["spec"]["selector"], [workload]), f"{name} does not select its own pods")
    headless = [it["metadata"]["name"] for it in services if it["spec"].get("clusterIP") == "None"]
    expect(workload["spec"]["serviceName"] in headless, f"{name} has no headless Service")
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    for container in spec["containers"]:
        mounts = container["volumeMounts"]
        expect({mount["name"] for mount in mounts} == volumes, f"{name}: mounts and volumes differ")
        paths = [mount["mountPath"] for mount in mounts]
        expect(len(paths) == len(set(paths)), f"{name}: two mounts have one path")
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            expect(container[kind]["httpGet"]["port"] in ports(workload), f"{name}: unknown port of {kind}")


def check_service(service, workloads, _):
    name = service["metadata"]["name"]
    pods = selected({"matchLabels": service["spec"]["selector"]}, workloads)
    expect(len(pods) == 1, f"Service {name} selects {len(pods)} workloads")
    for port in service["spec"]["ports"]:
        expect(port["targetPort"] in ports(pods[0]), f"Service {name}: unknown port {port['targetPort']}")


def check_budget(budget, workloads, _):
    pods = selected(budget["spec"]["selector"], workloads)
    expect(len(pods) == 1, f"PodDisruptionBudget {budget['metadata']['name']} selects {len(pods)} workloads")


def check_policy(policy, workloads, _):
    name = policy["metadata"]["name"]
    pods = selected(policy["spec"]["podSelector"], workloads)
    expect(len(pods) == 1, f"NetworkPolicy {name} selects {len(pods)} workloads")
    for rule in policy["spec"]["ingress"]:
        for port in rule["ports"]:
            expect(port["port"] in ports(pods[0]), f"NetworkPolicy {name}: unknown port {port['port']}")


def check_scaling(scaling, workloads, _):
    target = scaling["spec"]["scaleTargetRef"]["name"]
    names = [workload["metadata"]["name"] for workload in workloads]
    expect(target in names, f"{scaling['kind']} scales {target}, which does not exist")
    scaled = workloads[names.index(target)]
    expect("replicas" not in scaled["spec"], f"{target} is scaled, and an upgrade would reset its replicas")


def check_monitor(monitor, _, services):
    selector = monitor["spec"]["selector"]
    labels = [service for service in services if matches(selector, service["metadata"]["labels"])]
    expect(labels, "ServiceMonitor selects no Service")
    for service in labels:
        names = [port["name"] for port in service["spec"]["ports"]]
        for endpoint in monitor["spec"]["endpoints"]:
            expect(endpoint["port"] in names, f"ServiceMonitor: unknown port {endpoint['port']}")


CHECKS = {
    "Service": check_service,
    "PodDisruptionBudget": check_budget,
    "NetworkPolicy": check_policy,
    "HorizontalPodAutoscaler": check_scaling,
    "ScaledObject": check_scaling,
    "ServiceMonitor": check_monitor,
}


def selected(selector, workloads):
    return [it for it in workloads if matches(selector, it["spec"]["template"]["metadata"]["labels"])]


def matches(selector, labels):
    wanted = selector.get("matchLabels", {})
    present = [rule["key"] for rule in selector.get("matchExpressions", []) if rule["operator"] == "Exists"]
    return wanted.items() <= labels.items() and all(key in labels for key in present)


def ports(workload):
    containers = workload["spec"]["template"]["spec"]["containers"]
    return {port["name"] for container in containers for port in container["ports"]}


def expect(holds, message):
    if not holds:
        raise AssertionError(message)
