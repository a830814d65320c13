export { Interceptor } from './interceptor.js';
export {
  type Authority,
  type InterceptedSecret,
  type InterceptorRefusal,
  interceptorSocket,
} from './messages.js';
