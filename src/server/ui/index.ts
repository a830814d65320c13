import type { Route } from '../http/route.js';
import { pageRoutes } from './pages.js';
import { sessionRoutes } from './session.js';

/** The dashboard: its files, and how a browser signs in (docs/dashboard.md). */
export function uiRoutes(): readonly Route[] {
  return [...pageRoutes(), ...sessionRoutes];
}
