"""Volume sources that name a storage system outside the cluster. Nothing acts on them; the fields are the API's."""

from __future__ import annotations

from apimachinery.meta import Int32, LocalObjectReference, Record, always


class NFSVolumeSource(Record, kw_only=True):
    """An NFS export."""

    server: str = always("")
    path: str = always("")
    readOnly: bool | None = None


class GitRepoVolumeSource(Record, kw_only=True):
    """A clone of a repository (deprecated)."""

    repository: str = always("")
    revision: str = ""
    directory: str = ""


class FCVolumeSource(Record, kw_only=True):
    """A Fibre Channel disk."""

    targetWWNs: list[str] = []
    lun: Int32 | None = None
    fsType: str = ""
    readOnly: bool | None = None
    wwids: list[str] = []


class ISCSIVolumeSource(Record, kw_only=True):
    """An iSCSI disk."""

    targetPortal: str = always("")
    iqn: str = always("")
    lun: Int32 = always(0)
    iscsiInterface: str = ""
    fsType: str = ""
    readOnly: bool | None = None
    portals: list[str] = []
    chapAuthDiscovery: bool | None = None
    chapAuthSession: bool | None = None
    secretRef: LocalObjectReference | None = None
    initiatorName: str | None = None


class GCEPersistentDiskVolumeSource(Record, kw_only=True):
    """A disk of a cloud."""

    pdName: str = always("")
    fsType: str = ""
    partition: Int32 | None = None
    readOnly: bool | None = None


class AWSElasticBlockStoreVolumeSource(Record, kw_only=True):
    """A disk of a cloud."""

    volumeID: str = always("")
    fsType: str = ""
    partition: Int32 | None = None
    readOnly: bool | None = None


class GlusterfsVolumeSource(Record, kw_only=True):
    """A Gluster volume (removed; the field remains)."""

    endpoints: str = always("")
    path: str = always("")
    readOnly: bool | None = None


class RBDVolumeSource(Record, kw_only=True):
    """A Ceph block device."""

    monitors: list[str] = []
    image: str = always("")
    fsType: str = ""
    pool: str = ""
    user: str = ""
    keyring: str = ""
    secretRef: LocalObjectReference | None = None
    readOnly: bool | None = None


class FlexVolumeSource(Record, kw_only=True):
    """A volume of an exec plugin (deprecated)."""

    driver: str = always("")
    fsType: str = ""
    secretRef: LocalObjectReference | None = None
    readOnly: bool | None = None
    options: dict[str, str] = {}


class CinderVolumeSource(Record, kw_only=True):
    """A disk of a cloud."""

    volumeID: str = always("")
    fsType: str = ""
    readOnly: bool | None = None
    secretRef: LocalObjectReference | None = None


class CephFSVolumeSource(Record, kw_only=True):
    """A Ceph file system."""

    monitors: list[str] = []
    path: str = ""
    user: str = ""
    secretFile: str = ""
    secretRef: LocalObjectReference | None = None
    readOnly: bool | None = None


class FlockerVolumeSource(Record, kw_only=True):
    """A Flocker volume (removed; the field remains)."""

    datasetName: str = ""
    datasetUUID: str = ""


class AzureFileVolumeSource(Record, kw_only=True):
    """A share of a cloud."""

    secretName: str = always("")
    shareName: str = always("")
    readOnly: bool | None = None


class VsphereVirtualDiskVolumeSource(Record, kw_only=True):
    """A disk of a cloud."""

    volumePath: str = always("")
    fsType: str = ""
    storagePolicyName: str = ""
    storagePolicyID: str = ""


class QuobyteVolumeSource(Record, kw_only=True):
    """A Quobyte volume (removed; the field remains)."""

    registry: str = always("")
    volume: str = always("")
    readOnly: bool | None = None
    user: str = ""
    group: str = ""
    tenant: str = ""


class AzureDiskVolumeSource(Record, kw_only=True):
    """A disk of a cloud."""

    diskName: str = always("")
    diskURI: str = always("")
    cachingMode: str | None = None
    fsType: str | None = None
    readOnly: bool | None = None
    kind: str | None = None


class PhotonPersistentDiskVolumeSource(Record, kw_only=True):
    """A Photon disk (removed; the field remains)."""

    pdID: str = always("")
    fsType: str = ""


class PortworxVolumeSource(Record, kw_only=True):
    """A Portworx volume."""

    volumeID: str = always("")
    fsType: str = ""
    readOnly: bool | None = None


class ScaleIOVolumeSource(Record, kw_only=True):
    """A ScaleIO volume (removed; the field remains)."""

    gateway: str = always("")
    system: str = always("")
    secretRef: LocalObjectReference | None = None
    sslEnabled: bool | None = None
    protectionDomain: str = ""
    storagePool: str = ""
    storageMode: str = ""
    volumeName: str = ""
    fsType: str = ""
    readOnly: bool | None = None


class StorageOSVolumeSource(Record, kw_only=True):
    """A StorageOS volume (removed; the field remains)."""

    volumeName: str = ""
    volumeNamespace: str = ""
    fsType: str = ""
    readOnly: bool | None = None
    secretRef: LocalObjectReference | None = None
