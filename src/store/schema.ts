import type { ColumnType, Insertable, Selectable, Updateable } from 'kysely';

/** JSON as text. */
type Json = string;
/** Milliseconds since 1970. */
type Time = number;
/** 0 or 1: SQLite and PostgreSQL both take it. */
type Flag = number;
/** Set once. */
type Fixed<T> = ColumnType<T, T, never>;

interface BoxTable {
  id: Fixed<string>;
  /** Whose box it is; empty for the owner of the home. */
  tenant: Fixed<string>;
  name: string | null;
  status: string;
  created_at: Fixed<Time>;
  updated_at: Time;
  image: string;
  template: string | null;
  cpus: number;
  memory_mib: number;
  disk_size_gb: number;
  /** A BoxConfig. */
  config: Json;
  auto_stop: number;
  auto_stop_action: string;
  auto_delete: number;
  auto_resume: Flag;
  detach: Flag;
  labels: Json;
  /** Layers that the machine writes. */
  guest_head: string;
  disk_head: string;
  /** The golden machine whose guest disk `guest_head` descends from. */
  golden_key: string;
  /** The snapshot that the heads descend from. */
  snapshot_id: string | null;
  /** While paused: what it goes on from. */
  memory_id: string | null;
  failure: string | null;
  stages: Json;
  /** When its last use ended, as far as that was written. */
  last_active_at: Time;
  /** Whether it was in use when that was written. */
  in_use: Flag;
  /** How its main command ended: exit code and signal. */
  main_exit: Json | null;
  commands_total: number;
  exec_errors_total: number;
  bytes_sent_total: number;
  bytes_received_total: number;
  /** Counts changes of what the box comes back as; the database does it, in the transaction of the change. */
  record_version: Fixed<number>;
  /** Counts the homes that it has been in: one more with each that it moves to. */
  epoch: Fixed<number>;
}

interface LayerTable {
  id: Fixed<string>;
  /**
   * What the file is: `qcow2` or `raw` for disks; `memory-flat` or `memory-packed` for pages of memory, whose parent is
   * their `memory-map`; `device-state`; `working-set`.
   */
  kind: Fixed<string>;
  /** The layer this one needs to be read. */
  parent_id: string | null;
  /** `head`: a machine may write it; `sealed`: it never changes again. */
  state: string;
  virtual_bytes: number;
  /** Bytes it takes on disk; of a head: when it was last looked at. */
  size_bytes: number;
  /**
   * Of a sealed file, once it was read for it. Of `raw` and `ram`, which are mostly holes: of their blocks of 64 KiB
   * that are not zeros, each after its number (8 bytes, little-endian).
   */
  sha256: string | null;
  created_at: Fixed<Time>;
}

/** What holds a layer: a layer that nothing holds, and no held layer needs, is garbage. */
interface LayerHoldTable {
  layer_id: Fixed<string>;
  /** `box:ID`, `image:DIGEST`, `golden:KEY`, ... */
  holder: Fixed<string>;
}

/** What has to be done to files after a commit, and may not have been: `store/unfinished.ts`. */
interface UnfinishedTable {
  /** `layer:ID` or `memory:ID`. */
  what: Fixed<string>;
}

interface GoldenTable {
  key: Fixed<string>;
  accelerator: Fixed<string>;
  cpus: Fixed<number>;
  memory_mib: Fixed<number>;
  qemu_version: Fixed<string>;
  /** Kernel, initramfs and agent it booted. */
  assets_key: Fixed<string>;
  kernel_version: Fixed<string>;
  ram_layer: Fixed<string>;
  state_layer: Fixed<string>;
  guest_layer: Fixed<string>;
  boot_ms: Fixed<number>;
  /** Versioned name, such as `pc-q35-7.2`; empty: of an earlier format. */
  machine_type: Fixed<string>;
  /** Version of the list of devices. */
  devices: Fixed<number>;
  created_at: Fixed<Time>;
}

interface ImageTable {
  id: Fixed<string>;
  tenant: Fixed<string>;
  reference: Fixed<string>;
  repository: Fixed<string>;
  tag: Fixed<string>;
  manifest_digest: string;
  config_digest: string;
  /** An ImageConfig. */
  config: Json;
  /** Digests, media types and sizes of the layers. */
  layers: Json;
  size_bytes: number;
  cached_at: Time;
}

/** The base disk of an image, one per size. */
interface ImageDiskTable {
  manifest_digest: Fixed<string>;
  size_gb: Fixed<number>;
  layer_id: Fixed<string>;
}

interface SnapshotTable {
  id: Fixed<string>;
  box_id: Fixed<string>;
  name: Fixed<string>;
  created_at: Fixed<Time>;
  /** The snapshot it descends from, also when that is gone. */
  parent_id: Fixed<string | null>;
  consistency: Fixed<string>;
  disk_size_gb: Fixed<number>;
  golden_key: Fixed<string>;
  guest_layer: Fixed<string>;
  disk_layer: Fixed<string>;
  memory_id: Fixed<string | null>;
}

/** A machine that stands still, whole: its memory, devices and disks, and what it needs to go on. Never changes but for merges. */
interface MemoryTable {
  id: Fixed<string>;
  created_at: Fixed<Time>;
  /** The pages; a merge replaces it with one of the same content. */
  layer_id: string;
  state_layer: Fixed<string>;
  guest_layer: Fixed<string>;
  disk_layer: Fixed<string>;
  /** Pages that the first resume needed. */
  working_set: string | null;
  golden_key: Fixed<string>;
  cpus: Fixed<number>;
  memory_mib: Fixed<number>;
  accelerator: Fixed<string>;
  qemu_version: Fixed<string>;
  machine_type: Fixed<string>;
  cpu_model: Fixed<string>;
  /** Version of the list of devices. */
  devices: Fixed<number>;
  /** The volumes that are mounted in it: VolumeStamps. */
  volumes: Fixed<Json>;
  kernel_version: Fixed<string>;
  assets_key: Fixed<string>;
  /** The number that is in the memory; empty: it came in an archive, so whoever goes on from it is a new box. */
  run: Fixed<string>;
}

interface TemplateTable {
  id: Fixed<string>;
  tenant: Fixed<string>;
  name: Fixed<string>;
  created_at: Fixed<Time>;
  memory_id: Fixed<string>;
  image: Fixed<string>;
  cpus: Fixed<number>;
  memory_mib: Fixed<number>;
  disk_size_gb: Fixed<number>;
  /** A BoxConfig. */
  config: Fixed<Json>;
  /** An object of texts. A copy of a template of an earlier release has none. */
  labels: Fixed<Json>;
}

interface VolumeTable {
  id: Fixed<string>;
  tenant: Fixed<string>;
  name: Fixed<string>;
  created_at: Fixed<Time>;
  /** Its disk: `raw`, a head. */
  layer_id: Fixed<string>;
  size_bytes: Fixed<number>;
}

/** A volume of a box. */
interface BoxVolumeTable {
  box_id: Fixed<string>;
  /** Number of the machine's slot that it goes into. */
  slot: Fixed<number>;
  volume_id: Fixed<string>;
  guest_path: Fixed<string>;
  read_only: Fixed<Flag>;
}

/** A port of the host that leads to a box. */
interface PortTable {
  host_ip: Fixed<string>;
  host_port: Fixed<number>;
  box_id: Fixed<string>;
  guest_port: Fixed<number>;
}

interface SecretTable {
  box_id: Fixed<string>;
  name: Fixed<string>;
  /** Its value, encrypted by the key of the home. */
  sealed: string;
}

/** An address of its own for a port of a box. */
interface PreviewTable {
  id: Fixed<string>;
  box_id: Fixed<string>;
  guest_port: Fixed<number>;
  /** SHA-256 of the token, in hexadecimal digits; null: it is public. */
  token_hash: Fixed<string | null>;
  created_at: Fixed<number>;
}

/** A box that has left, while its store was not told. */
interface DepartureTable {
  box_id: Fixed<string>;
  /** The box's `epoch` here. */
  epoch: Fixed<number>;
  /** Id of the store that has all of it. */
  store: Fixed<string>;
  /** What it comes back from: a manifest of a box, as it is put. */
  manifest: Fixed<Json>;
}

/** When the run of a box ends; it says nothing of a box that does not run. */
interface RunEndTable {
  box_id: Fixed<string>;
  ends_at: Time;
}

/** A box whose ports everybody reaches who knows their address; all others are private. */
interface PublicBoxTable {
  box_id: Fixed<string>;
}

interface MachineTable {
  id: Fixed<string>;
  /** Null while it waits in the pool. */
  box_id: string | null;
  /** What it was restored from or last captured as; null: the golden machine. */
  memory_id: string | null;
  /** The flat layer it maps; null: its memory is its own, and came from a page server. */
  base_layer: string | null;
  /** The process that supplies its memory. */
  pager_pid: number | null;
  pager_ticks: number | null;
  /** The process at the other end of its network card; null: there is none. */
  gateway_pid: number | null;
  gateway_ticks: number | null;
  gateway_token: string | null;
  pid: Fixed<number>;
  start_ticks: Fixed<number>;
  host_boot: Fixed<string>;
  uid: Fixed<number | null>;
  gid: Fixed<number | null>;
  created_at: Fixed<Time>;
}

/** Which record of a box an object store has. */
interface ReplicaTable {
  box_id: Fixed<string>;
  /** Id of the store. */
  store: string;
  /** The box's `record_version` then. */
  version: number;
}

interface LimitTable {
  /** A LimitScope. */
  scope: Fixed<string>;
  name: Fixed<string>;
  value: Fixed<number>;
}

interface CounterTable {
  name: Fixed<string>;
  value: number;
}

interface MetaTable {
  key: Fixed<string>;
  value: string;
}

interface ApiKeyTable {
  /** Public part of the key. */
  id: Fixed<string>;
  name: Fixed<string | null>;
  /** SHA-256 of the whole key, in hex. */
  hash: Fixed<string>;
  tenant: Fixed<string>;
  /** Names of scopes, separated by spaces. */
  scopes: Fixed<string>;
  created_at: Fixed<Time>;
  expires_at: Fixed<Time | null>;
}

interface IdempotencyKeyTable {
  tenant: Fixed<string>;
  /** As the client chose it. */
  key: Fixed<string>;
  /** Hash of the request it was first used for. */
  fingerprint: Fixed<string>;
  /** The boxes of the request have ids that follow from it. */
  operation_id: Fixed<string>;
  created_at: Fixed<Time>;
  /** JSON, or null while there is none. */
  answer: string | null;
}

/** The result of a step of a build: an image that no reference names. */
interface BuildStepTable {
  tenant: Fixed<string>;
  /** Hash of all that the step came from. */
  key: Fixed<string>;
  manifest_digest: Fixed<string>;
  config_digest: Fixed<string>;
  /** As of an image. */
  layers: Fixed<Json>;
  used_at: Time;
}

/** The tables of a home. Names only, no paths: a home can be moved. */
export interface Schema {
  boxes: BoxTable;
  layers: LayerTable;
  layer_holds: LayerHoldTable;
  unfinished: UnfinishedTable;
  goldens: GoldenTable;
  snapshots: SnapshotTable;
  images: ImageTable;
  image_disks: ImageDiskTable;
  machines: MachineTable;
  memories: MemoryTable;
  templates: TemplateTable;
  volumes: VolumeTable;
  box_volumes: BoxVolumeTable;
  ports: PortTable;
  previews: PreviewTable;
  public_boxes: PublicBoxTable;
  run_ends: RunEndTable;
  box_secrets: SecretTable;
  build_steps: BuildStepTable;
  replicas: ReplicaTable;
  departures: DepartureTable;
  counters: CounterTable;
  limits: LimitTable;
  meta: MetaTable;
  api_keys: ApiKeyTable;
  idempotency_keys: IdempotencyKeyTable;
}

/** A box as it is stored. */
export type BoxRow = Selectable<BoxTable>;
/** A box to be stored. */
export type NewBoxRow = Insertable<BoxTable>;
/** Changes of a stored box. */
export type BoxChanges = Updateable<BoxTable>;
/** The result of a step of a build as it is stored. */
export type BuildStepRow = Selectable<BuildStepTable>;
/** The value of a secret as it is stored. */
export type SecretRow = Selectable<SecretTable>;
/** A box that has left as it is stored. */
export type DepartureRow = Selectable<DepartureTable>;
/** A layer as it is stored. */
export type LayerRow = Selectable<LayerTable>;
/** A key of the REST API as it is stored. */
export type ApiKeyRow = Selectable<ApiKeyTable>;
/** A golden machine as it is stored. */
export type GoldenRow = Selectable<GoldenTable>;
/** An image as it is stored. */
export type ImageRow = Selectable<ImageTable>;
/** A snapshot as it is stored. */
export type SnapshotRow = Selectable<SnapshotTable>;
/** A memory as it is stored. */
export type MemoryRow = Selectable<MemoryTable>;
/** A template as it is stored. */
export type TemplateRow = Selectable<TemplateTable>;
/** A volume as it is stored. */
export type VolumeRow = Selectable<VolumeTable>;
/** A published port as it is stored. */
export type PortRow = Selectable<PortTable>;
/** A preview as it is stored. */
export type PreviewRow = Selectable<PreviewTable>;
/** A machine as it is stored. */
export type MachineRow = Selectable<MachineTable>;
/** Changes of a stored machine. */
export type MachineChanges = Updateable<MachineTable>;
