/** Descriptors of protobuf messages and services, written down as tables of their fields (Protocol Buffers, proto3). */
import { create, createFileRegistry, type FileRegistry } from '@bufbuild/protobuf';
import { protoCamelCase } from '@bufbuild/protobuf/reflect';
import {
  type DescriptorProto,
  DescriptorProtoSchema,
  EnumDescriptorProtoSchema,
  EnumValueDescriptorProtoSchema,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_timestamp,
  MethodDescriptorProtoSchema,
  OneofDescriptorProtoSchema,
  ServiceDescriptorProtoSchema,
} from '@bufbuild/protobuf/wkt';

const scalars = {
  string: FieldDescriptorProto_Type.STRING,
  bytes: FieldDescriptorProto_Type.BYTES,
  bool: FieldDescriptorProto_Type.BOOL,
  uint32: FieldDescriptorProto_Type.UINT32,
  sint32: FieldDescriptorProto_Type.SINT32,
  int64: FieldDescriptorProto_Type.INT64,
} as const;

/** A scalar, `map` (of text to text), or the name of a message or enum of the package; one with dots is whole. */
type TypeName = string;

/** Number and type of a field, and what it is beside: one of a group of which one is set, a list, one that may be unset. */
type Field = readonly [
  number: number,
  type: TypeName,
  rule?: 'repeated' | 'optional' | { readonly oneof: string },
];

/** What a package holds: messages by their fields, enums by their values, services by their methods. */
export interface PackageTable {
  readonly messages: Readonly<Record<string, Readonly<Record<string, Field>>>>;
  readonly enums?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Request, answer, and which of them are streams. */
  readonly services: Readonly<
    Record<
      string,
      Readonly<Record<string, readonly [request: string, answer: string, stream?: 'in' | 'out']>>
    >
  >;
}

/** Descriptors of a package. */
export function describePackage(name: string, table: PackageTable): FileRegistry {
  const file = create(FileDescriptorProtoSchema, {
    name: `${name}.proto`,
    package: name,
    syntax: 'proto3',
    dependency: [file_google_protobuf_timestamp.proto.name],
    messageType: Object.entries(table.messages).map(([message, fields]) =>
      messageOf(name, table, message, fields),
    ),
    enumType: Object.entries(table.enums ?? {}).map(([type, values]) =>
      create(EnumDescriptorProtoSchema, {
        name: type,
        value: Object.entries(values).map(([name, number]) =>
          create(EnumValueDescriptorProtoSchema, { name, number }),
        ),
      }),
    ),
    service: Object.entries(table.services).map(([service, methods]) =>
      create(ServiceDescriptorProtoSchema, {
        name: service,
        method: Object.entries(methods).map(([method, [request, answer, stream]]) =>
          create(MethodDescriptorProtoSchema, {
            name: method,
            inputType: `.${name}.${request}`,
            outputType: `.${name}.${answer}`,
            clientStreaming: stream === 'in',
            serverStreaming: stream === 'out',
          }),
        ),
      }),
    ),
  });
  const set = create(FileDescriptorSetSchema, { file: [file_google_protobuf_timestamp.proto, file] });
  return createFileRegistry(set);
}

function messageOf(
  packageName: string,
  table: PackageTable,
  name: string,
  fields: Readonly<Record<string, Field>>,
): DescriptorProto {
  const message = create(DescriptorProtoSchema, { name });
  const groups: string[] = [];
  for (const [, , rule] of Object.values(fields)) {
    if (typeof rule === 'object' && !groups.includes(rule.oneof)) groups.push(rule.oneof);
  }
  // A field that may be unset is the only one of a group that is not seen (proto3, "Field Presence").
  const unset = Object.entries(fields).filter(([, [, , rule]]) => rule === 'optional');
  const oneofs = [...groups, ...unset.map(([field]) => `_${field}`)];
  message.oneofDecl = oneofs.map((each) => create(OneofDescriptorProtoSchema, { name: each }));
  for (const [field, [number, type, rule]] of Object.entries(fields)) {
    const oneof = typeof rule === 'object' ? rule.oneof : rule === 'optional' ? `_${field}` : undefined;
    if (type === 'map') message.nestedType.push(mapEntry(field));
    message.field.push(
      create(FieldDescriptorProtoSchema, {
        name: field,
        jsonName: protoCamelCase(field),
        number,
        ...typeOf(packageName, table, type, `${name}.${entryName(field)}`),
        label:
          rule === 'repeated' || type === 'map'
            ? FieldDescriptorProto_Label.REPEATED
            : FieldDescriptorProto_Label.OPTIONAL,
        ...(oneof === undefined ? {} : { oneofIndex: oneofs.indexOf(oneof) }),
        ...(rule === 'optional' ? { proto3Optional: true } : {}),
      }),
    );
  }
  return message;
}

function typeOf(
  packageName: string,
  table: PackageTable,
  type: TypeName,
  mapName: string,
): Pick<Partial<FieldDescriptorProto>, 'type' | 'typeName'> {
  if (type in scalars) return { type: scalars[type as keyof typeof scalars] };
  if (type === 'map')
    return { type: FieldDescriptorProto_Type.MESSAGE, typeName: `.${packageName}.${mapName}` };
  const isEnum = type in (table.enums ?? {});
  return {
    type: isEnum ? FieldDescriptorProto_Type.ENUM : FieldDescriptorProto_Type.MESSAGE,
    typeName: type.includes('.') ? `.${type}` : `.${packageName}.${type}`,
  };
}

/** The message that stands for an entry of a map (Protocol Buffers, "Maps", backwards compatibility). */
function mapEntry(field: string): DescriptorProto {
  const entry = (name: string, number: number): FieldDescriptorProto =>
    create(FieldDescriptorProtoSchema, {
      name,
      jsonName: name,
      number,
      type: FieldDescriptorProto_Type.STRING,
      label: FieldDescriptorProto_Label.OPTIONAL,
    });
  return create(DescriptorProtoSchema, {
    name: entryName(field),
    field: [entry('key', 1), entry('value', 2)],
    options: { mapEntry: true },
  });
}

/** `envs` has entries `EnvsEntry`. */
function entryName(field: string): string {
  return `${field.replaceAll(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())}Entry`;
}
