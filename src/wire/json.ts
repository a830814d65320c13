/** Helpers to read JSON that came over the network without trusting its shape. */
import { CryoboxError } from '../errors.js';

/** A JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

function mismatch(field: string, expected: string, got: unknown): CryoboxError {
  const shown = got === null ? 'null' : typeof got;
  return new CryoboxError(
    'upstream_unavailable',
    `The answer's "${field}" should be ${expected}, but is ${shown}`,
  );
}

/** The value as an object; `upstream_unavailable` otherwise. */
export function asObject(value: unknown, field = 'body'): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw mismatch(field, 'an object', value);
  }
  return value as JsonObject;
}

/** The objects of a list. */
export function asObjects(value: unknown, field = 'body'): JsonObject[] {
  if (!Array.isArray(value)) throw mismatch(field, 'a list', value);
  return value.map((each) => asObject(each, field));
}

/** A text field. */
export function text(from: JsonObject, field: string): string {
  const value = from[field];
  if (typeof value !== 'string') throw mismatch(field, 'a text', value);
  return value;
}

/** A text field that may be absent or null. */
export function textOrNull(from: JsonObject, field: string): string | null {
  return from[field] === undefined || from[field] === null ? null : text(from, field);
}

/** A number field; `fallback` when it is absent or null. */
export function number(from: JsonObject, field: string, fallback?: number): number {
  const value = from[field] ?? fallback;
  if (typeof value !== 'number') throw mismatch(field, 'a number', value);
  return value;
}

/** A number field that may be absent or null. */
export function numberOrNull(from: JsonObject, field: string): number | null {
  return from[field] === undefined || from[field] === null ? null : number(from, field);
}

/** A time field, RFC 3339. */
export function date(from: JsonObject, field: string): Date {
  const value = new Date(text(from, field));
  if (Number.isNaN(value.getTime())) throw mismatch(field, 'a time', from[field]);
  return value;
}

/** The texts of a list; empty when it is absent. */
export function texts(from: JsonObject, field: string): string[] {
  const value = from[field] ?? [];
  if (!Array.isArray(value)) throw mismatch(field, 'a list', value);
  return value.map(String);
}

/** A map of texts; empty when it is absent. */
export function textMap(from: JsonObject, field: string): Record<string, string> {
  const entries = Object.entries(asObject(from[field] ?? {}, field));
  return Object.fromEntries(entries.map(([key, value]) => [key, String(value)]));
}

/** A map of numbers; empty when it is absent. */
export function numberMap(from: JsonObject, field: string): Record<string, number> {
  const map = asObject(from[field] ?? {}, field);
  return Object.fromEntries(Object.keys(map).map((key) => [key, number(map, key)]));
}

/** The same object without the fields that are undefined. */
export function compact<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}
