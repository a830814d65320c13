import type { PublishedPort, PublishOptions } from '../api/index.js';
import { compact, type JsonObject, number, text, textOrNull } from './json.js';

/** A port of the host that is to lead to a box: an item of `ports`, and the body of `POST {p}/boxes/{id}/ports`. */
export interface PublishJson {
  readonly guest_port: number;
  readonly host_port?: number;
  readonly host_ip?: string;
}

/** A port that is to be published, on the wire. */
export function publishToJson({ guestPort, hostPort, hostIp }: PublishOptions): PublishJson {
  return compact({ guest_port: guestPort, host_port: hostPort, host_ip: hostIp });
}

/** The inverse of {@link publishToJson}. */
export function publishFromJson(json: PublishJson): PublishOptions {
  return compact({ guestPort: json.guest_port, hostPort: json.host_port, hostIp: json.host_ip });
}

/** A published port on the wire. */
export function portToJson({ guestPort, hostPort, hostIp, failure }: PublishedPort): JsonObject {
  return { guest_port: guestPort, host_port: hostPort, host_ip: hostIp, failure };
}

/** The inverse of {@link portToJson}. */
export function portFromJson(json: JsonObject): PublishedPort {
  return {
    guestPort: number(json, 'guest_port'),
    hostPort: number(json, 'host_port'),
    hostIp: text(json, 'host_ip'),
    failure: textOrNull(json, 'failure'),
  };
}
