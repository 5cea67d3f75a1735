"""Volumes of a pod: every source of the v1 API."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kinds.pod_volumes_external import (
    AWSElasticBlockStoreVolumeSource,
    AzureDiskVolumeSource,
    AzureFileVolumeSource,
    CephFSVolumeSource,
    CinderVolumeSource,
    FCVolumeSource,
    FlexVolumeSource,
    FlockerVolumeSource,
    GCEPersistentDiskVolumeSource,
    GitRepoVolumeSource,
    GlusterfsVolumeSource,
    ISCSIVolumeSource,
    NFSVolumeSource,
    PhotonPersistentDiskVolumeSource,
    PortworxVolumeSource,
    QuobyteVolumeSource,
    RBDVolumeSource,
    ScaleIOVolumeSource,
    StorageOSVolumeSource,
    VsphereVirtualDiskVolumeSource,
)
from apimachinery.meta import (
    Int32,
    Int64,
    LabelSelector,
    LocalObjectReference,
    ObjectMeta,
    QuantityString,
    Record,
    TypedLocalObjectReference,
    TypedObjectReference,
    always,
    fresh,
    merge_on,
)


class SecretReference(Record, kw_only=True):
    """Names a secret of any namespace."""

    name: str = ""
    namespace: str = ""


class KeyToPath(Record, kw_only=True):
    """One key of a ConfigMap or Secret and the file that it becomes."""

    key: str = always("")
    path: str = always("")
    mode: Int32 | None = None


class ObjectFieldSelector(Record, kw_only=True):
    """A field of the pod, such as `metadata.name`."""

    apiVersion: str = ""
    fieldPath: str = always("")


class ResourceFieldSelector(Record, kw_only=True):
    """A resource of a container, such as `limits.cpu`, in units of divisor."""

    containerName: str = ""
    resource: str = always("")
    divisor: QuantityString = always("0")


class HostPathVolumeSource(Record, kw_only=True):
    """A path of the node."""

    path: str = always("")
    type: str | None = None


class EmptyDirVolumeSource(Record, kw_only=True):
    """A directory that lives as long as the pod. medium is "", Memory or HugePages."""

    medium: str = ""
    sizeLimit: QuantityString | None = None


class SecretVolumeSource(Record, kw_only=True):
    """Files from a secret."""

    secretName: str = ""
    items: list[KeyToPath] = []
    defaultMode: Int32 | None = None
    optional: bool | None = None


class ConfigMapVolumeSource(Record, kw_only=True):
    """Files from a ConfigMap."""

    name: str = ""
    items: list[KeyToPath] = []
    defaultMode: Int32 | None = None
    optional: bool | None = None


class DownwardAPIVolumeFile(Record, kw_only=True):
    """A file with a field or a resource of the pod."""

    path: str = always("")
    fieldRef: ObjectFieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    mode: Int32 | None = None


class DownwardAPIVolumeSource(Record, kw_only=True):
    """Files about the pod itself."""

    items: list[DownwardAPIVolumeFile] = []
    defaultMode: Int32 | None = None


class SecretProjection(Record, kw_only=True):
    """A secret inside a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class ConfigMapProjection(Record, kw_only=True):
    """A ConfigMap inside a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class DownwardAPIProjection(Record, kw_only=True):
    """Pod fields inside a projected volume."""

    items: list[DownwardAPIVolumeFile] = []


class ServiceAccountTokenProjection(Record, kw_only=True):
    """A token for the pod's service account."""

    audience: str = ""
    expirationSeconds: Int64 | None = None
    path: str = always("")


class ClusterTrustBundleProjection(Record, kw_only=True):
    """Trust anchors, by name or by signer."""

    name: str | None = None
    signerName: str | None = None
    labelSelector: LabelSelector | None = None
    optional: bool | None = None
    path: str = always("")


class VolumeProjection(Record, kw_only=True):
    """One source of a projected volume; exactly one field is set."""

    secret: SecretProjection | None = None
    downwardAPI: DownwardAPIProjection | None = None
    configMap: ConfigMapProjection | None = None
    serviceAccountToken: ServiceAccountTokenProjection | None = None
    clusterTrustBundle: ClusterTrustBundleProjection | None = None


class ProjectedVolumeSource(Record, kw_only=True):
    """Several sources in one directory."""

    sources: list[VolumeProjection] = []
    defaultMode: Int32 | None = None


class PersistentVolumeClaimVolumeSource(Record, kw_only=True):
    """A claim of the same namespace."""

    claimName: str = always("")
    readOnly: bool | None = None


class VolumeResourceRequirements(Record, kw_only=True):
    """Storage that is asked for."""

    limits: dict[str, QuantityString] = {}
    requests: dict[str, QuantityString] = {}


class PersistentVolumeClaimSpec(Record, kw_only=True):
    """What a claim asks for."""

    accessModes: list[str] = []
    selector: LabelSelector | None = None
    resources: VolumeResourceRequirements = fresh(VolumeResourceRequirements)
    volumeName: str = ""
    storageClassName: str | None = None
    volumeMode: str | None = None
    dataSource: TypedLocalObjectReference | None = None
    dataSourceRef: TypedObjectReference | None = None
    volumeAttributesClassName: str | None = None


class PersistentVolumeClaimTemplate(Record, kw_only=True):
    """A claim that is made for the pod."""

    metadata: ObjectMeta = fresh(ObjectMeta)
    spec: PersistentVolumeClaimSpec = fresh(PersistentVolumeClaimSpec)


class EphemeralVolumeSource(Record, kw_only=True):
    """A claim that lives as long as the pod."""

    volumeClaimTemplate: PersistentVolumeClaimTemplate | None = None


class CSIVolumeSource(Record, kw_only=True):
    """An inline volume of a CSI driver."""

    driver: str = always("")
    readOnly: bool | None = None
    fsType: str | None = None
    volumeAttributes: dict[str, str] = {}
    nodePublishSecretRef: LocalObjectReference | None = None


class ImageVolumeSource(Record, kw_only=True):
    """The files of an image."""

    reference: str = ""
    pullPolicy: str = ""


class Volume(Record, kw_only=True):
    """A named directory that containers may mount; at most one source is set, and none means emptyDir."""

    name: str = always("")
    hostPath: HostPathVolumeSource | None = None
    emptyDir: EmptyDirVolumeSource | None = None
    gcePersistentDisk: GCEPersistentDiskVolumeSource | None = None
    awsElasticBlockStore: AWSElasticBlockStoreVolumeSource | None = None
    gitRepo: GitRepoVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    glusterfs: GlusterfsVolumeSource | None = None
    persistentVolumeClaim: PersistentVolumeClaimVolumeSource | None = None
    rbd: RBDVolumeSource | None = None
    flexVolume: FlexVolumeSource | None = None
    cinder: CinderVolumeSource | None = None
    cephfs: CephFSVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    downwardAPI: DownwardAPIVolumeSource | None = None
    fc: FCVolumeSource | None = None
    azureFile: AzureFileVolumeSource | None = None
    configMap: ConfigMapVolumeSource | None = None
    vsphereVolume: VsphereVirtualDiskVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    azureDisk: AzureDiskVolumeSource | None = None
    photonPersistentDisk: PhotonPersistentDiskVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    portworxVolume: PortworxVolumeSource | None = None
    scaleIO: ScaleIOVolumeSource | None = None
    storageos: StorageOSVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    image: ImageVolumeSource | None = None


PodVolumes = Annotated[list[Volume], merge_on("name", strategy="merge,retainKeys")]
SOURCES = tuple(name for name in Volume.__struct_fields__ if name != "name")
