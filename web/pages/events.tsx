import { recentEvents } from '../lib/events.ts';
import { linkTo } from '../lib/route.ts';
import { useValue } from '../lib/value.ts';

/** What happened since the page was opened, newest first. */
export function EventsPage() {
  const events = useValue(recentEvents);
  return (
    <>
      <h1>Events</h1>
      <table>
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Kind</th>
            <th scope="col">What</th>
            <th scope="col">Change</th>
          </tr>
        </thead>
        <tbody>
          {events.map((event) => (
            <tr key={event.position}>
              <td>{new Date(event.at).toLocaleTimeString()}</td>
              <td>{event.kind}</td>
              <td>{event.kind === 'box' ? <a href={linkTo('box', event.id)}>{event.id}</a> : event.id}</td>
              <td>{event.change}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {events.length === 0 ? <p class="empty">Nothing has happened since this page was opened.</p> : null}
    </>
  );
}
