// The library's containers need it before anything else of it.
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { LRUCache } from 'lru-cache';
import type { Authority } from './messages.js';

/** Forks, templates and processes in frozen memory trust the authority as long as they exist. */
const authorityYears = 10;
const dayMs = 24 * 60 * 60 * 1000;
/** Made anew before it ends; its end lies far enough behind that for connections that were just opened. */
const leafKeptMs = 23 * 60 * 60 * 1000;
/** Names of all boxes that are in use within a day. */
const maxLeaves = 1000;
/** Every key and signature: a curve that all clients know. */
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Makes the authority of a home. Takes some 10 ms. */
export async function newAuthority(): Promise<Authority> {
  const keys = await newKeys();
  const end = new Date();
  end.setUTCFullYear(end.getUTCFullYear() + authorityYears);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: 'CN=Cryobox secrets',
    // Clocks may be behind.
    notBefore: new Date(Date.now() - dayMs),
    notAfter: end,
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { key: await keyPem(keys.privateKey), certificate: `${certificate.toString('pem')}\n` };
}

/** Certificates for servers' names, signed by an authority. They share one key, which exists in this process only. */
export class Leaves {
  readonly #authority: X509Certificate;
  readonly #signingKey: Promise<webcrypto.CryptoKey>;
  readonly #keys = newKeys();
  readonly #contexts = new LRUCache<string, Promise<SecureContext>>({ max: maxLeaves, ttl: leafKeptMs });

  constructor({ key, certificate }: Authority) {
    this.#authority = new X509Certificate(certificate);
    const bytes = PemConverter.decodeFirst(key);
    this.#signingKey = webcrypto.subtle.importKey('pkcs8', bytes, algorithm, false, ['sign']);
  }

  /** What a server of this name shows itself with. */
  async contextFor(name: string): Promise<SecureContext> {
    const known = this.#contexts.get(name);
    if (known) return await known;
    const made = this.#make(name);
    this.#contexts.set(name, made);
    made.catch(() => this.#contexts.delete(name));
    return await made;
  }

  async #make(name: string): Promise<SecureContext> {
    const keys = await this.#keys;
    const leaf = await X509CertificateGenerator.create({
      serialNumber: newSerial(),
      // A common name has at most 64 characters (RFC 5280, appendix A.1); clients go by the alternative name.
      subject: 'CN=Cryobox',
      issuer: this.#authority.subject,
      notBefore: new Date(Date.now() - dayMs),
      notAfter: new Date(Date.now() + 2 * dayMs),
      signingAlgorithm: algorithm,
      signingKey: await this.#signingKey,
      publicKey: keys.publicKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([{ type: 'dns', value: name }]),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
        await AuthorityKeyIdentifierExtension.create(this.#authority.publicKey),
      ],
    });
    return createSecureContext({
      key: await keyPem(keys.privateKey),
      cert: leaf.toString('pem'),
      minVersion: 'TLSv1.2',
    });
  }
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

/** Positive, and at most 20 bytes (RFC 5280, section 4.1.2.2). */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = 0x40 | ((bytes[0] ?? 0) & 0x3f);
  return bytes.toString('hex');
}
