// Keeps a ticket in this browser, or forgets it when the ticket is empty.
export default function ({ data }) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    const age = data.value ? data.seconds : 0;
    document.cookie = `${data.name}=${data.value}; Path=/; SameSite=Strict; Max-Age=${age}${secure}`;
}
