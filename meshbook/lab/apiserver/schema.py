"""The schema of each kind: fields, types, required fields, and how items of its lists are told apart. Pure data.

One line per type: its name, then its fields as ``name:type``. No type means string; the other scalars stand in
``scalars``, ``any`` is not looked into. ``X[]`` is a list that is replaced as a whole, ``X[key]`` a list whose
items are told apart by ``key`` (``[a,b=D]``: by a and b, where a missing b means D), ``X[=]`` a set, ``X{}`` a map, a
leading ``*`` marks what is replaced as a whole though it has fields, a trailing ``!`` what must be there. A type whose
line ends in ``...`` has more fields than these, which are taken as they come.

``decoding`` reads bodies by it, ``validation`` asks what is missing or out of bounds, ``patches`` and
``managedfields`` how lists are keyed. No handler, controller or kubelet reads a field that is ``any`` here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal

from meshbook.lab.apiserver.scalars import SCALARS
from meshbook.objects import Object

_META = """
ObjectMeta name generateName namespace uid resourceVersion selfLink creationTimestamp:time deletionTimestamp:time
  deletionGracePeriodSeconds:long generation:long labels:str{} annotations:str{} finalizers:str[=]
  ownerReferences:OwnerReference[uid] managedFields:ManagedFields[]
ManagedFields apiVersion fieldsType fieldsV1:any manager operation subresource time:time
OwnerReference apiVersion! kind! name! uid! controller:bool blockOwnerDeletion:bool
LabelSelector matchLabels:str{} matchExpressions:SelectorRequirement[]
SelectorRequirement key! operator! values:str[]
ObjectReference apiVersion fieldPath kind name namespace resourceVersion uid
LocalReference name
Condition type! status! reason message observedGeneration:long lastTransitionTime:time lastUpdateTime:time
  lastProbeTime:time lastHeartbeatTime:time
"""

_PODS = """
Pod metadata:ObjectMeta spec:PodSpec! status:PodStatus
PodTemplate metadata:ObjectMeta spec:PodSpec!
PodSpec containers:Container[name]! initContainers:Container[name] ephemeralContainers:any[] volumes:Volume[name]
  activeDeadlineSeconds:long affinity:any automountServiceAccountToken:bool dnsConfig:any dnsPolicy
  enableServiceLinks:bool hostAliases:any[] hostIPC:bool hostNetwork:bool hostPID:bool hostUsers:bool hostname
  imagePullSecrets:LocalReference[name] nodeName nodeSelector:*str{} os:any overhead:qty{} preemptionPolicy
  priority:int priorityClassName readinessGates:any[] resourceClaims:any[] resources:Resources
  restartPolicy:Always/OnFailure/Never runtimeClassName schedulerName schedulingGates:any[] securityContext:any
  serviceAccount serviceAccountName setHostnameAsFQDN:bool shareProcessNamespace:bool subdomain
  terminationGracePeriodSeconds:long tolerations:Toleration[]
  topologySpreadConstraints:Spread[topologyKey,whenUnsatisfiable]
Toleration key operator value effect tolerationSeconds:long
Spread topologyKey! whenUnsatisfiable! maxSkew:int! labelSelector:*LabelSelector minDomains:int nodeAffinityPolicy
  nodeTaintsPolicy matchLabelKeys:str[]
Container name! image! args:str[] command:str[] env:EnvVar[name] envFrom:any[] imagePullPolicy lifecycle:any
  livenessProbe:Probe readinessProbe:Probe startupProbe:Probe ports:ContainerPort[containerPort,protocol=TCP]
  resizePolicy:any[] resources:Resources restartPolicy restartPolicyRules:any[] securityContext:any stdin:bool
  stdinOnce:bool terminationMessagePath terminationMessagePolicy tty:bool volumeDevices:any[]
  volumeMounts:VolumeMount[mountPath] workingDir
ContainerPort containerPort:port! protocol:SCTP/TCP/UDP name hostPort:int hostIP
EnvVar name! value valueFrom:EnvVarSource
EnvVarSource configMapKeyRef:any fieldRef:*FieldRef fileKeyRef:any resourceFieldRef:any secretKeyRef:any
FieldRef apiVersion fieldPath!
Probe exec:ExecAction grpc:any httpGet:HttpGet tcpSocket:SocketAction initialDelaySeconds:count periodSeconds:count
  timeoutSeconds:count successThreshold:count failureThreshold:count terminationGracePeriodSeconds:long
ExecAction command:str[]!
SocketAction host port:target!
HttpGet path port:target! host scheme:HTTP/HTTPS httpHeaders:HttpHeader[]
HttpHeader name! value!
Resources limits:qty{} requests:qty{} claims:any[]
Volume name! awsElasticBlockStore:any azureDisk:any azureFile:any cephfs:any cinder:any configMap:any csi:any
  downwardAPI:any emptyDir:any ephemeral:any fc:any flexVolume:any flocker:any gcePersistentDisk:any gitRepo:any
  glusterfs:any hostPath:any image:any iscsi:any nfs:any persistentVolumeClaim:any photonPersistentDisk:any
  portworxVolume:any projected:any quobyte:any rbd:any scaleIO:any secret:any storageos:any vsphereVolume:any
VolumeMount mountPath! name! mountPropagation readOnly:bool recursiveReadOnly subPath subPathExpr
PodStatus phase message reason hostIP hostIPs:any[] podIP podIPs:PodIP[ip] qosClass startTime:time nominatedNodeName
  resize observedGeneration:long conditions:Condition[type] containerStatuses:ContainerStatus[]
  initContainerStatuses:ContainerStatus[] ephemeralContainerStatuses:ContainerStatus[] resourceClaimStatuses:any[]
  allocatedResources:qty{} resources:Resources
PodIP ip
ContainerStatus name! image imageID containerID ready:bool started:bool restartCount:int state:ContainerState
  lastState:ContainerState allocatedResources:qty{} allocatedResourcesStatus:any[] resources:Resources stopSignal
  user:any volumeMounts:any[]
ContainerState running:Running terminated:Terminated waiting:Waiting
Running startedAt:time
Terminated containerID exitCode:int finishedAt:time message reason signal:int startedAt:time
Waiting message reason
"""

_WORKLOADS = """
Deployment metadata:ObjectMeta spec:DeploymentSpec! status:DeploymentStatus
DeploymentSpec replicas:count selector:*LabelSelector! template:PodTemplate! strategy:Strategy minReadySeconds:count
  revisionHistoryLimit:count paused:bool progressDeadlineSeconds:count
Strategy type:Recreate/RollingUpdate rollingUpdate:RollingUpdate
RollingUpdate maxSurge:share maxUnavailable:share
DeploymentStatus availableReplicas:count collisionCount:int conditions:Condition[type] observedGeneration:long
  readyReplicas:count replicas:count terminatingReplicas:count unavailableReplicas:count updatedReplicas:count
ReplicaSet metadata:ObjectMeta spec:ReplicaSetSpec! status:ReplicaSetStatus
ReplicaSetSpec replicas:count selector:*LabelSelector! template:PodTemplate! minReadySeconds:count
ReplicaSetStatus availableReplicas:count conditions:Condition[type] fullyLabeledReplicas:count observedGeneration:long
  readyReplicas:count replicas:count terminatingReplicas:count
Scale metadata:ObjectMeta spec:ScaleSpec status:ScaleStatus
ScaleSpec replicas:count
ScaleStatus replicas:count selector
HorizontalPodAutoscaler metadata:ObjectMeta spec:AutoscalerSpec! status:AutoscalerStatus
AutoscalerSpec scaleTargetRef:ScaleTarget! minReplicas:int maxReplicas:int! metrics:Metric[] behavior:any
ScaleTarget apiVersion kind! name!
Metric type! containerResource:any external:any object:any pods:any resource:ResourceMetric
ResourceMetric name! target:MetricTarget!
MetricTarget type! averageUtilization:int averageValue:qty value:qty
AutoscalerStatus conditions:Condition[type] currentMetrics:any[] currentReplicas:count desiredReplicas:count
  lastScaleTime:time observedGeneration:long
PodDisruptionBudget metadata:ObjectMeta spec:BudgetSpec status:BudgetStatus
BudgetSpec maxUnavailable:share minAvailable:share selector:*LabelSelector unhealthyPodEvictionPolicy
BudgetStatus conditions:Condition[type] currentHealthy:int desiredHealthy:int disruptedPods:any disruptionsAllowed:int
  expectedPods:int observedGeneration:long
"""

_CLUSTER = """
Namespace metadata:ObjectMeta spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec finalizers:str[]
NamespaceStatus phase conditions:Condition[type]
Node metadata:ObjectMeta spec:NodeSpec status:NodeStatus
NodeSpec configSource:any externalID podCIDR podCIDRs:str[=] providerID taints:any[] unschedulable:bool
NodeStatus addresses:NodeAddress[type] allocatable:qty{} capacity:qty{} conditions:Condition[type] config:any
  daemonEndpoints:DaemonEndpoints declaredFeatures:str[] features:any images:any[] nodeInfo:any phase
  runtimeHandlers:any[] volumesAttached:any[] volumesInUse:str[]
NodeAddress type! address!
DaemonEndpoints kubeletEndpoint:DaemonEndpoint
DaemonEndpoint Port:int!
Service metadata:ObjectMeta spec:ServiceSpec! status:ServiceStatus
ServiceSpec ports:ServicePort[port,protocol=TCP] selector:*str{} type:ClusterIP/ExternalName/LoadBalancer/NodePort
  clusterIP clusterIPs:str[] externalIPs:str[] allocateLoadBalancerNodePorts:bool externalName externalTrafficPolicy
  healthCheckNodePort:int internalTrafficPolicy ipFamilies:str[] ipFamilyPolicy loadBalancerClass loadBalancerIP
  loadBalancerSourceRanges:str[] publishNotReadyAddresses:bool sessionAffinity:ClientIP/None sessionAffinityConfig:any
  trafficDistribution
ServicePort port:port! protocol:SCTP/TCP/UDP name targetPort:target nodePort:int appProtocol
ServiceStatus conditions:Condition[type] loadBalancer:LoadBalancer
LoadBalancer ingress:LoadBalancerAddress[]
LoadBalancerAddress hostname ip ipMode ports:any[]
Endpoints metadata:ObjectMeta subsets:Subset[]
Subset addresses:EndpointAddress[] notReadyAddresses:EndpointAddress[] ports:EndpointPort[]
EndpointAddress ip! hostname nodeName targetRef:*ObjectReference
EndpointPort port:port protocol:SCTP/TCP/UDP name appProtocol
EndpointSlice metadata:ObjectMeta addressType:IPv4/IPv6/FQDN! endpoints:Endpoint[] ports:EndpointPort[]
Endpoint addresses:str[]! conditions:EndpointConditions deprecatedTopology:any hints:any hostname nodeName
  targetRef:*ObjectReference zone
EndpointConditions ready:bool serving:bool terminating:bool
ConfigMap metadata:ObjectMeta data:str{} binaryData:bytes{} immutable:bool
Secret metadata:ObjectMeta data:bytes{} stringData:str{} immutable:bool type
ServiceAccount metadata:ObjectMeta automountServiceAccountToken:bool imagePullSecrets:LocalReference[]
  secrets:ObjectReference[name]
Event metadata:ObjectMeta involvedObject:ObjectReference! action count:int eventTime:time firstTimestamp:time
  lastTimestamp:time message reason related:ObjectReference reportingComponent reportingInstance series:any
  source:EventSource type
EventSource component host
Binding metadata:ObjectMeta target:ObjectReference!
Role metadata:ObjectMeta rules:PolicyRule[]
ClusterRole metadata:ObjectMeta rules:PolicyRule[] aggregationRule:any
PolicyRule apiGroups:str[] nonResourceURLs:str[] resourceNames:str[] resources:str[] verbs:str[]!
RoleBinding metadata:ObjectMeta roleRef:*RoleRef! subjects:Subject[]
ClusterRoleBinding metadata:ObjectMeta roleRef:*RoleRef! subjects:Subject[]
RoleRef apiGroup kind:Role/ClusterRole! name!
Subject kind:ServiceAccount/User/Group! name! apiGroup namespace
MutatingWebhookConfiguration metadata:ObjectMeta webhooks:Webhook[name]
Webhook name! admissionReviewVersions:str[]! clientConfig:ClientConfig! sideEffects! failurePolicy:Fail/Ignore
  matchPolicy:Equivalent/Exact matchConditions:any[] namespaceSelector:*LabelSelector objectSelector:*LabelSelector
  reinvocationPolicy rules:WebhookRule[] timeoutSeconds:int
ClientConfig url caBundle:bytes service:any
Lease metadata:ObjectMeta spec:LeaseSpec
LeaseSpec holderIdentity acquireTime:time renewTime:time leaseDurationSeconds:int leaseTransitions:int preferredHolder
  strategy
WebhookRule apiGroups:str[] apiVersions:str[] operations:str[] resources:str[] scope
"""

_CUSTOM = """
DestinationRule metadata:ObjectMeta spec:DestinationRuleSpec status:any
DestinationRuleSpec host! exportTo:str[] subsets:RuleSubset[] trafficPolicy:TrafficPolicy workloadSelector:any
RuleSubset name! labels:str{} trafficPolicy:TrafficPolicy
TrafficPolicy connectionPool:any loadBalancer:Balancer outlierDetection:OutlierDetection portLevelSettings:any[]
  proxyProtocol:any retryBudget:any tls:any tunnel:any
Balancer simple consistentHash:any localityLbSetting:LocalityBalancing warmup:any warmupDurationSecs
LocalityBalancing enabled:bool distribute:any[] failover:any[] failoverPriority:str[]
OutlierDetection baseEjectionTime consecutive5xxErrors:int consecutiveErrors:int consecutiveGatewayErrors:int
  consecutiveLocalOriginFailures:int interval maxEjectionPercent:int minHealthPercent:int
  splitExternalLocalOriginErrors:bool
Gateway metadata:ObjectMeta spec:GatewaySpec status:any
GatewaySpec selector:str{} servers:GatewayServer[]
GatewayServer bind defaultEndpoint hosts:str[]! name port:GatewayPort! tls:GatewayTls
GatewayPort name! number:int! protocol! targetPort:int
GatewayTls mode ...
VirtualService metadata:ObjectMeta spec:VirtualServiceSpec status:any
VirtualServiceSpec exportTo:str[] gateways:str[] hosts:str[] http:HttpRoute[] tcp:any[] tls:any[]
HttpRoute match:HttpMatch[] name retries:Retries rewrite:Rewrite route:HttpDestination[] timeout ...
HttpMatch gateways:str[] headers:StringMatch{} method:StringMatch name port:int uri:StringMatch ...
StringMatch exact prefix regex
Retries attempts:int ...
Rewrite uri ...
HttpDestination destination:Destination! weight:int ...
Destination host! port:DestinationPort subset
DestinationPort number:int
PeerAuthentication metadata:ObjectMeta spec:PeerAuthenticationSpec status:any
PeerAuthenticationSpec mtls:PeerMtls portLevelMtls:any selector:PeerSelector
PeerMtls mode:UNSET/DISABLE/PERMISSIVE/STRICT
PeerSelector matchLabels:str{}
MultiClusterIngress metadata:ObjectMeta spec:MultiClusterIngressSpec status:MultiClusterIngressStatus
MultiClusterIngressSpec template:MultiClusterIngressTemplate ...
MultiClusterIngressTemplate spec:IngressSpec ...
IngressSpec backend:IngressBackend ...
IngressBackend serviceName servicePort:target ...
MultiClusterIngressStatus VIP ...
MultiClusterService metadata:ObjectMeta spec:MultiClusterServiceSpec status:any
MultiClusterServiceSpec clusters:ClusterLink[] template:MultiClusterServiceTemplate! ...
ClusterLink link ...
MultiClusterServiceTemplate spec:DerivedServiceSpec! ...
DerivedServiceSpec ports:DerivedPort[] selector:str{} ...
DerivedPort port:port! name protocol targetPort:target ...
BackendConfig metadata:ObjectMeta spec:BackendConfigSpec status:any
BackendConfigSpec healthCheck:HealthCheck ...
HealthCheck checkIntervalSec:int healthyThreshold:int port:int requestPath timeoutSec:int type unhealthyThreshold:int
  ...
"""
"""What the lab reads of custom kinds."""

_REQUESTS = """
DeleteOptions dryRun:str[] gracePeriodSeconds:long ignoreStoreReadErrorWithClusterBreakingPotential:bool
  orphanDependents:bool preconditions:Preconditions propagationPolicy
Preconditions resourceVersion uid
SelfSubjectAccessReview metadata:ObjectMeta spec:AccessReview! status:any
AccessReview resourceAttributes:ResourceAttributes nonResourceAttributes:NonResourceAttributes
ResourceAttributes fieldSelector:any group labelSelector:any name namespace resource subresource verb version
NonResourceAttributes path verb
SelfSubjectRulesReview metadata:ObjectMeta spec:RulesReview! status:any
RulesReview namespace
SelfSubjectReview metadata:ObjectMeta status:any
"""
"""What is asked and not kept."""


Form = Literal["any", "scalar", "struct", "map", "list"]
_TYPE = re.compile(r"(?P<atomic>\*?)(?P<base>\w+(?:/\w+)*)(?P<suffix>\{\}|\[[^\]]*\])?(?P<required>!?)")


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
        return {name: schema_of(text) for name, text in _types().get(self.name, {}).items() if name != _MORE}

    @cached_property
    def alternatives(self) -> tuple[str, ...]:
        """What a string must be one of, if it must."""
        return tuple(self.name.split("/")) if self.form == "scalar" and "/" in self.name else ()

    @cached_property
    def element(self) -> Schema:
        """Schema of the items of a list or the values of a map."""
        return schema_of(self.name)

    def child(self, name: str) -> Schema | None:
        """Return the schema of a member; None when a struct has no such field."""
        if self.form == "struct":
            return self.fields.get(name, ANY if _MORE in _types()[self.name] else None)
        return self.element if self.form == "map" else ANY

    def identity(self, item: Object) -> Object:
        """Return the keys that tell ``item`` of this list apart."""
        return {key: item.get(key, default) for key, default in self.keys.items() if key in item or default}


ANY = Schema(form="any")
_MORE = "..."


@cache
def _types() -> dict[str, dict[str, str]]:
    """Return type → field → type of the field."""
    types = {}
    text = _META + _PODS + _WORKLOADS + _CLUSTER + _CUSTOM + _REQUESTS
    for line in filter(None, text.replace("\n  ", " ").splitlines()):
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
    assert base in _types() or "/" in base or base in SCALARS, text
    return Schema(form="struct" if base in _types() else "scalar", name=base, atomic=atomic, required=required)
