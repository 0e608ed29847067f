"""The schema of each kind: fields, types, required fields, and how items of its lists are told apart. Pure data.

One line per type: its name, then its fields as ``name:type``. No type means string. ``int bool num`` are what they say,
``qty`` a quantity, ``any`` is not looked into. ``X[]`` is a list that is replaced as a whole, ``X[key]`` a list whose
items are told apart by ``key`` (``[a,b=D]``: by a and b, where a missing b means D), ``X[=]`` a set, ``X{}`` a map, a
leading ``*`` marks what is replaced as a whole though it has fields, a trailing ``!`` what must be there.

``decoding`` reads bodies by it, ``validation`` asks what is missing, patches and ``managedfields`` how lists are keyed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal

from meshbook.objects import Object

_META = """
ObjectMeta name generateName namespace uid resourceVersion selfLink creationTimestamp deletionTimestamp
  deletionGracePeriodSeconds:int generation:int labels:str{} annotations:str{} finalizers:str[=]
  ownerReferences:OwnerReference[uid] managedFields:any[]
OwnerReference apiVersion! kind! name! uid! controller:bool blockOwnerDeletion:bool
LabelSelector matchLabels:str{} matchExpressions:SelectorRequirement[]
SelectorRequirement key! operator! values:str[]
ObjectReference apiVersion fieldPath kind name namespace resourceVersion uid
LocalReference name
Condition type! status! reason message observedGeneration:int lastTransitionTime lastUpdateTime lastProbeTime
  lastHeartbeatTime
Object metadata:ObjectMeta spec:any status:any
"""

_PODS = """
Pod metadata:ObjectMeta spec:PodSpec! status:PodStatus
PodTemplate metadata:ObjectMeta spec:PodSpec!
PodSpec containers:Container[name]! initContainers:Container[name] ephemeralContainers:any[] volumes:Volume[name]
  activeDeadlineSeconds:int affinity:any automountServiceAccountToken:bool dnsConfig:any dnsPolicy
  enableServiceLinks:bool hostAliases:any[] hostIPC:bool hostNetwork:bool hostPID:bool hostUsers:bool hostname
  imagePullSecrets:LocalReference[name] nodeName nodeSelector:*str{} os:any overhead:qty{} preemptionPolicy
  priority:int priorityClassName readinessGates:any[] resourceClaims:any[] resources:Resources restartPolicy
  runtimeClassName schedulerName schedulingGates:any[] securityContext:any serviceAccount serviceAccountName
  setHostnameAsFQDN:bool shareProcessNamespace:bool subdomain terminationGracePeriodSeconds:int tolerations:any[]
  topologySpreadConstraints:Spread[topologyKey,whenUnsatisfiable]
Spread topologyKey! whenUnsatisfiable! maxSkew:int! labelSelector:*LabelSelector minDomains:int nodeAffinityPolicy
  nodeTaintsPolicy matchLabelKeys:str[]
Container name! image! args:str[] command:str[] env:EnvVar[name] envFrom:any[] imagePullPolicy lifecycle:any
  livenessProbe:Probe readinessProbe:Probe startupProbe:Probe ports:ContainerPort[containerPort,protocol=TCP]
  resizePolicy:any[] resources:Resources restartPolicy restartPolicyRules:any[] securityContext:any stdin:bool
  stdinOnce:bool terminationMessagePath terminationMessagePolicy tty:bool volumeDevices:any[]
  volumeMounts:VolumeMount[mountPath] workingDir
ContainerPort containerPort:int! protocol name hostPort:int hostIP
EnvVar name! value valueFrom:any
Probe exec:any grpc:any httpGet:HttpGet tcpSocket:any initialDelaySeconds:int periodSeconds:int timeoutSeconds:int
  successThreshold:int failureThreshold:int terminationGracePeriodSeconds:int
HttpGet path port:any! host scheme httpHeaders:any[]
Resources limits:qty{} requests:qty{} claims:any[]
Volume name! awsElasticBlockStore:any azureDisk:any azureFile:any cephfs:any cinder:any configMap:any csi:any
  downwardAPI:any emptyDir:any ephemeral:any fc:any flexVolume:any flocker:any gcePersistentDisk:any gitRepo:any
  glusterfs:any hostPath:any image:any iscsi:any nfs:any persistentVolumeClaim:any photonPersistentDisk:any
  portworxVolume:any projected:any quobyte:any rbd:any scaleIO:any secret:any storageos:any vsphereVolume:any
VolumeMount mountPath! name! mountPropagation readOnly:bool recursiveReadOnly subPath subPathExpr
PodStatus phase message reason hostIP hostIPs:any[] podIP podIPs:PodIP[ip] qosClass startTime nominatedNodeName resize
  observedGeneration:int conditions:Condition[type] containerStatuses:any[] initContainerStatuses:any[]
  ephemeralContainerStatuses:any[] resourceClaimStatuses:any[] allocatedResources:qty{} resources:Resources
PodIP ip
"""

_WORKLOADS = """
Deployment metadata:ObjectMeta spec:DeploymentSpec! status:DeploymentStatus
DeploymentSpec replicas:int selector:*LabelSelector! template:PodTemplate! strategy:Strategy minReadySeconds:int
  revisionHistoryLimit:int paused:bool progressDeadlineSeconds:int
Strategy type rollingUpdate:RollingUpdate
RollingUpdate maxSurge:any maxUnavailable:any
DeploymentStatus availableReplicas:int collisionCount:int conditions:Condition[type] observedGeneration:int
  readyReplicas:int replicas:int terminatingReplicas:int unavailableReplicas:int updatedReplicas:int
ReplicaSet metadata:ObjectMeta spec:ReplicaSetSpec! status:ReplicaSetStatus
ReplicaSetSpec replicas:int selector:*LabelSelector! template:PodTemplate! minReadySeconds:int
ReplicaSetStatus availableReplicas:int conditions:Condition[type] fullyLabeledReplicas:int observedGeneration:int
  readyReplicas:int replicas:int terminatingReplicas:int
Scale metadata:ObjectMeta spec:ScaleSpec status:ScaleStatus
ScaleSpec replicas:int
ScaleStatus replicas:int selector
HorizontalPodAutoscaler metadata:ObjectMeta spec:AutoscalerSpec! status:AutoscalerStatus
AutoscalerSpec scaleTargetRef:ScaleTarget! minReplicas:int maxReplicas:int! metrics:any[] behavior:any
ScaleTarget apiVersion kind! name!
AutoscalerStatus conditions:Condition[type] currentMetrics:any[] currentReplicas:int desiredReplicas:int lastScaleTime
  observedGeneration:int
PodDisruptionBudget metadata:ObjectMeta spec:BudgetSpec status:BudgetStatus
BudgetSpec maxUnavailable:any minAvailable:any selector:*LabelSelector unhealthyPodEvictionPolicy
BudgetStatus conditions:Condition[type] currentHealthy:int desiredHealthy:int disruptedPods:any disruptionsAllowed:int
  expectedPods:int observedGeneration:int
"""

_CLUSTER = """
Namespace metadata:ObjectMeta spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec finalizers:str[]
NamespaceStatus phase conditions:Condition[type]
Node metadata:ObjectMeta spec:NodeSpec status:NodeStatus
NodeSpec configSource:any externalID podCIDR podCIDRs:str[=] providerID taints:any[] unschedulable:bool
NodeStatus addresses:NodeAddress[type] allocatable:qty{} capacity:qty{} conditions:Condition[type] config:any
  daemonEndpoints:any declaredFeatures:str[] features:any images:any[] nodeInfo:any phase runtimeHandlers:any[]
  volumesAttached:any[] volumesInUse:str[]
NodeAddress type! address!
Service metadata:ObjectMeta spec:ServiceSpec! status:ServiceStatus
ServiceSpec ports:ServicePort[port,protocol=TCP] selector:*str{} type clusterIP clusterIPs:str[] externalIPs:str[]
  allocateLoadBalancerNodePorts:bool externalName externalTrafficPolicy healthCheckNodePort:int internalTrafficPolicy
  ipFamilies:str[] ipFamilyPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges:str[]
  publishNotReadyAddresses:bool sessionAffinity sessionAffinityConfig:any trafficDistribution
ServicePort port:int! protocol name targetPort:any nodePort:int appProtocol
ServiceStatus conditions:Condition[type] loadBalancer:LoadBalancer
LoadBalancer ingress:any[]
Endpoints metadata:ObjectMeta subsets:any[]
EndpointSlice metadata:ObjectMeta addressType! endpoints:Endpoint[] ports:any[]
Endpoint addresses:str[]! conditions:any deprecatedTopology:any hints:any hostname nodeName targetRef:any zone
ConfigMap metadata:ObjectMeta data:str{} binaryData:str{} immutable:bool
Secret metadata:ObjectMeta data:str{} stringData:str{} immutable:bool type
ServiceAccount metadata:ObjectMeta automountServiceAccountToken:bool imagePullSecrets:LocalReference[]
  secrets:ObjectReference[name]
Event metadata:ObjectMeta involvedObject:ObjectReference! action count:int eventTime firstTimestamp lastTimestamp
  message reason related:any reportingComponent reportingInstance series:any source:any type
Binding metadata:ObjectMeta target:ObjectReference!
Role metadata:ObjectMeta rules:PolicyRule[]
ClusterRole metadata:ObjectMeta rules:PolicyRule[] aggregationRule:any
PolicyRule apiGroups:str[] nonResourceURLs:str[] resourceNames:str[] resources:str[] verbs:str[]!
RoleBinding metadata:ObjectMeta roleRef:*RoleRef! subjects:Subject[]
ClusterRoleBinding metadata:ObjectMeta roleRef:*RoleRef! subjects:Subject[]
RoleRef apiGroup kind! name!
Subject kind! name! apiGroup namespace
MutatingWebhookConfiguration metadata:ObjectMeta webhooks:Webhook[name]
Webhook name! admissionReviewVersions:str[]! clientConfig:ClientConfig! sideEffects! failurePolicy matchPolicy
  matchConditions:any[] namespaceSelector:*LabelSelector objectSelector:*LabelSelector reinvocationPolicy
  rules:WebhookRule[] timeoutSeconds:int
ClientConfig url caBundle service:any
Lease metadata:ObjectMeta spec:LeaseSpec
LeaseSpec holderIdentity acquireTime renewTime leaseDurationSeconds:int leaseTransitions:int preferredHolder strategy
WebhookRule apiGroups:str[] apiVersions:str[] operations:str[] resources:str[] scope
"""


Form = Literal["any", "scalar", "struct", "map", "list"]
_TYPE = re.compile(r"(?P<atomic>\*?)(?P<base>\w+)(?P<suffix>\{\}|\[[^\]]*\])?(?P<required>!?)")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """How one value looks. ``keys`` tells items of a list apart: key → value that a missing key means."""

    form: Form
    name: str = "any"
    atomic: bool = False
    """Replaced and owned as a whole."""
    required: bool = False
    unique: bool = False
    """A list that is a set of scalars."""
    keys: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def fields(self) -> dict[str, Schema]:
        return {name: schema_of(text) for name, text in _types().get(self.name, {}).items()}

    @cached_property
    def element(self) -> Schema:
        """Schema of the items of a list or the values of a map."""
        return schema_of(self.name)

    def child(self, name: str) -> Schema | None:
        """Return the schema of a member; None when a struct has no such field."""
        if self.form == "struct":
            return self.fields.get(name)
        return self.element if self.form == "map" else ANY

    def identity(self, item: Object) -> Object:
        """Return the keys that tell ``item`` of this list apart."""
        return {key: item.get(key, default) for key, default in self.keys.items() if key in item or default}


ANY = Schema(form="any")


@cache
def _types() -> dict[str, dict[str, str]]:
    """Return type → field → type of the field."""
    types = {}
    for line in filter(None, (_META + _PODS + _WORKLOADS + _CLUSTER).replace("\n  ", " ").splitlines()):
        name, *members = line.split()
        pairs = [(m if ":" in m else (m[:-1] + ":str!" if m.endswith("!") else m + ":str")).split(":") for m in members]
        types[name] = {member: kind for member, kind in pairs}
    return types


@cache
def schema_of(text: str) -> Schema:
    """Return the schema of a type, by its name or as fields are typed above."""
    match = _TYPE.fullmatch(text)
    assert match, text
    base, suffix, atomic, required = (
        match["base"],
        match["suffix"] or "",
        bool(match["atomic"]),
        bool(match["required"]),
    )
    if suffix == "{}":
        return Schema(form="map", name=base, atomic=atomic, required=required)
    if suffix:
        inner = suffix[1:-1]
        parts = [part.partition("=") for part in inner.split(",")] if inner not in ("", "=") else []
        keys = {key: default or None for key, _, default in parts}
        return Schema(form="list", name=base, atomic=not inner, required=required, unique=inner == "=", keys=keys)
    if base == "any":
        return Schema(form="any", required=required)
    return Schema(form="struct" if base in _types() else "scalar", name=base, atomic=atomic, required=required)
