// The models of simpy_models.py and remote.py with the fewest events, for ns-3.
//
//     ns3 calls CLIENTS CALLS NS...
//     ns3 remote CLIENTS CALLS PROCESSORS DELAY CLIENT SERVER RECEIVE
//
// Times are in ns. NS are the stretches of a call: outside a lock and under it, in turn. Messages
// between machines are UDP packets. Prints the virtual time at the end in ns, and the processor time
// of the run in seconds.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include <ns3/core-module.h>
#include <ns3/internet-module.h>
#include <ns3/network-module.h>
#include <ns3/point-to-point-module.h>

using namespace ns3;
using Free = std::priority_queue<int64_t, std::vector<int64_t>, std::greater<int64_t>>;  // when processors are

static int64_t ended = 0;  // the latest time at which a client did

static int64_t now()
{
    return Simulator::Now().GetNanoSeconds();
}

// A client of this machine: asks for the lock, if there is one, once in each two stretches.
struct Local {
    std::vector<int64_t> stretches;
    int calls;
    int64_t* free;
    size_t at = 0;
    int64_t due = 0;

    void begin()
    {
        if (free == nullptr) {
            for (size_t other = 1; other < stretches.size(); other++)
                stretches[0] += stretches[other];
            stretches.resize(1);
        }
        next();
    }
    void next()
    {
        if (calls == 0) {
            ended = std::max(ended, due);
            return;
        }
        due += stretches[at];
        Simulator::Schedule(NanoSeconds(due - now()), &Local::reached, this);
    }
    void reached()
    {
        if (free != nullptr) {
            due = *free = std::max(due, *free) + stretches[at + 1];
            at += 2;
            if (at < stretches.size() - stretches.size() % 2) {
                next();
                return;
            }
            if (at < stretches.size())
                due += stretches[at];
            at = 0;
        }
        calls--;
        next();
    }
};

// Occupies the processor that is free first, from now on; returns when it is done.
static int64_t occupy(Free& free, int64_t takes)
{
    int64_t done = std::max(now(), free.top()) + takes;
    free.pop();
    free.push(done);
    return done;
}

// A client of another machine, and what serves it there.
struct Remote {
    Ptr<Socket> client, server;
    Ipv4Address to;
    uint16_t port;
    int calls;
    int64_t takes, serves, receives;
    Free *own, *others;
    Address from;
    int64_t received = 0;

    void call()
    {
        if (calls-- == 0) {
            ended = std::max(ended, occupy(*own, receives));
            return;
        }
        int64_t leaves = occupy(*own, received + takes);
        received = receives;
        Simulator::Schedule(NanoSeconds(leaves - now()), &Remote::send, this);
    }
    void send()
    {
        client->SendTo(Create<Packet>(), 0, InetSocketAddress(to, port));
    }
    void arrived(Ptr<Socket> socket)
    {
        socket->RecvFrom(from);
        Simulator::Schedule(NanoSeconds(occupy(*others, serves) - now()), &Remote::reply, this);
    }
    void reply()
    {
        server->SendTo(Create<Packet>(), 0, from);
    }
    void replied(Ptr<Socket> socket)
    {
        socket->Recv();
        call();
    }
};

int main(int count, char** given)
{
    std::string what = given[1];
    int clients = std::stoi(given[2]), calls = std::stoi(given[3]);
    std::vector<int64_t> times;
    for (int at = 4; at < count; at++)
        times.push_back(std::stoll(given[at]));

    int64_t lock = 0;
    Free own, others;
    std::vector<Local> local;
    std::vector<Remote> remote;
    if (what == "calls") {
        for (int client = 0; client < clients; client++)
            local.push_back({times, calls, clients == 1 ? nullptr : &lock});
        for (Local& one : local)
            Simulator::ScheduleNow(&Local::begin, &one);
    } else {
        for (int64_t at = 0; at < times[0]; at++)
            own.push(0), others.push(0);
        NodeContainer nodes(2);
        PointToPointHelper link;
        link.SetDeviceAttribute("DataRate", StringValue("1000000Gbps"));  // a packet takes no time to send
        link.SetChannelAttribute("Delay", TimeValue(NanoSeconds(times[1])));
        link.SetQueue("ns3::DropTailQueue", "MaxSize", StringValue("10000p"));
        NetDeviceContainer devices = link.Install(nodes);
        InternetStackHelper().Install(nodes);
        Ipv4InterfaceContainer places = Ipv4AddressHelper("10.0.0.0", "255.255.255.0").Assign(devices);
        for (int client = 0; client < clients; client++) {
            Remote one{nullptr, nullptr, places.GetAddress(1), uint16_t(1000 + client), calls, times[2], times[3],
                       times[4], &own, &others};
            remote.push_back(one);
        }
        for (Remote& one : remote) {
            one.client = Socket::CreateSocket(nodes.Get(0), UdpSocketFactory::GetTypeId());
            one.server = Socket::CreateSocket(nodes.Get(1), UdpSocketFactory::GetTypeId());
            one.client->Bind();
            one.server->Bind(InetSocketAddress(Ipv4Address::GetAny(), one.port));
            one.client->SetRecvCallback(MakeCallback(&Remote::replied, &one));
            one.server->SetRecvCallback(MakeCallback(&Remote::arrived, &one));
            Simulator::ScheduleNow(&Remote::call, &one);
        }
    }
    std::clock_t began = std::clock();
    Simulator::Run();
    double seconds = double(std::clock() - began) / CLOCKS_PER_SEC;
    Simulator::Destroy();
    std::printf("%lld %.6f\n", static_cast<long long>(ended), seconds);
}
