import { templateToJson } from '../../wire/runtime.js';
import { empty, notFound, ok, type Route, route } from '../http/route.js';
import {
  templateBody,
  templateListQuery,
  templateParams,
  templateQuery,
  templateRequest,
} from './schemas/snapshot.js';

/** Templates: named machine states new boxes start from (v1 contract, "What ours adds to v1"). */
export const templateRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/snapshots',
    operation: 'createTemplate',
    summary: 'Make a template from a running or paused box',
    scope: 'template:write',
    dialect: 'templates',
    query: templateQuery,
    body: templateRequest,
    answer: { status: 201, body: templateBody },
    handle: async (call) => {
      const { sandbox_id: box, name, labels } = call.body;
      const { overwrite } = call.query;
      return ok(
        templateToJson(
          await call.runtime.templates.create({ box, name, overwrite, labels, signal: call.signal }),
        ),
        201,
      );
    },
  }),
  route({
    method: 'GET',
    path: '/snapshots',
    operation: 'listTemplates',
    summary: 'All templates',
    scope: 'template:read',
    dialect: 'templates',
    query: templateListQuery,
    answer: { status: 200, body: templateBody.array() },
    handle: async (call) => {
      const templates = await call.runtime.templates.list({ type: call.query.type, signal: call.signal });
      return ok(templates.map(templateToJson));
    },
  }),
  route({
    method: 'GET',
    path: '/snapshots/:name',
    operation: 'getTemplate',
    summary: 'One template',
    scope: 'template:read',
    dialect: 'templates',
    params: templateParams,
    answer: { status: 200, body: templateBody },
    handle: async (call) => {
      const template = await call.runtime.templates.get(call.params.name, { signal: call.signal });
      if (!template) throw notFound('template', call.params.name);
      return ok(templateToJson(template));
    },
  }),
  route({
    method: 'DELETE',
    path: '/snapshots/:name',
    operation: 'removeTemplate',
    summary: 'Remove a template',
    scope: 'template:write',
    dialect: 'templates',
    params: templateParams,
    answer: { status: 204 },
    handle: async (call) => {
      await call.runtime.templates.remove(call.params.name, { signal: call.signal });
      return empty;
    },
  }),
];
